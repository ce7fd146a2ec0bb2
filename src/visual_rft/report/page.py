"""One self-contained HTML file from any number of run folders.

Decision: style, scripts and markup are files of their own (``page.html``, ``page.css``, ``*.js``), put together here;
the data are a JSON block that no browser runs, and a content security policy allows exactly the page's own script, by
its hash, and no network. What a model wrote reaches the page as text only.

    write_report([read_run(Path("runs/demo"))], Path("report.html"))
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from visual_rft.files import write_whole
from visual_rft.report.payload import embedded, payload
from visual_rft.report.reading import Run, finite

SCRIPTS = ("dom.js", "charts.js", "cards.js", "rollouts.js", "examples.js", "drawings.js", "gallery.js", "page.js")
"""In the order in which they are put together."""


def write_report(runs: Sequence[Run], file: Path) -> int:
    """Write the report of some runs; returns its size in bytes.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    text = render(payload(runs, embedded(runs)), " and ".join(run.name for run in runs))
    write_whole(file, text)
    return len(text.encode())


def render(content: Mapping[str, Any], title: str) -> str:
    """The page with its data.

    Args:
        content: result of :func:`visual_rft.report.payload.payload`.
        title: title of the window.
    """
    style, script = asset("page.css"), "\n".join(asset(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data: 'self'; connect-src 'self'; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    pieces = {"POLICY": policy, "TITLE": escaped(title), "STYLE": style, "SCRIPT": script, "DATA": as_json(content)}
    head, *rest = asset("page.html").split("{{")
    # One pass over the template, so that nothing inside a piece is taken for a place.
    return head + "".join(pieces[name] + tail for name, _, tail in (part.partition("}}") for part in rest))


def as_json(content: Any) -> str:
    """JSON that is safe inside a script element: ``<`` is written as an escape, so ``</script>`` cannot end it."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(finite(content)[0], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate of broken model text has no UTF-8.
    return text.replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()


def escaped(text: str) -> str:
    """Text as HTML."""
    text = text.encode("utf-8", "backslashreplace").decode()  # a name that is no UTF-8
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def asset(name: str) -> str:
    """A file of the page."""
    return (files("visual_rft.report") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
