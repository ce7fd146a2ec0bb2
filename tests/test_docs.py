"""The README and the docs: commands parse, configs are valid, examples run, links lead somewhere, the site builds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from support import browser

from visual_rft.cli.arguments import split_fields
from visual_rft.cli.main import VERBS, make_parser
from visual_rft.config.config import Config, load_config, parse_config
from visual_rft.config.sources import SourceConfig

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def code_lines(text: str) -> list[str]:
    """Lines of indented and fenced blocks, those that end with a backslash joined with the next."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()


def commands(text: str) -> list[list[str]]:
    """The arguments of every ``visual-rft`` command in code, and of every one in the text between backticks."""
    found = [line for line in code_lines(text) if re.match(r"(\.venv/bin/)?visual-rft [a-z-]", line)]
    found += [m[1] for m in re.finditer(r"`(visual-rft [a-z][^`]*)`", text)]
    return [shlex.split(line.split(" < ")[0], comments=True)[1:] for line in found]


PLACEHOLDERS = {"VERB"}
"""Words in the docs that stand for something else."""
COMMANDS = [
    pytest.param(words, id=f"{name}: {' '.join(words)[:80]}")
    for name, page in zip(NAMES, PAGES, strict=True)
    for words in commands(page.read_text())
    if words[0] not in PLACEHOLDERS
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_understood(words, tmp_path):
    parser = make_parser()
    if len(words) == 1 and words[0] in VERBS:  # the name of a verb, in a sentence
        return
    if words[:1] == ["data"] and len(words) == 2:
        words = [*words, "--help"]
    others, fields = split_fields(words) if VERBS[words[0]].fields else (words, [])
    if {"--help", "--fields"} & set(others):
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(others)
        assert caught.value.code == 0
        return
    arguments = parser.parse_args(others)
    file = ROOT / str(getattr(arguments, "config", None) or getattr(arguments, "what", None))
    if not file.is_file():  # a config of the reader's
        file = tmp_path / "run.yaml"
        file.write_text("data: {train: [{source: shapes}]}")
    if fields:
        load_config(file, fields)


def test_there_are_commands():
    assert len(COMMANDS) > 40


BLOCKS = [
    pytest.param(name, number, code, id=f"{name}-{number}")
    for name, page in zip(NAMES, PAGES, strict=True)
    if name != "docs/adapters.md"  # tests/tasks/test_adapters.py runs those
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize(("name", "number", "code"), BLOCKS)
def test_python_runs(name, number, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "class Counting" in code:
        source = (ROOT / "examples" / "counting.py").read_text()
        assert code == source[source.index("from __future__") :], "docs/extend.md shows the whole example"
        return
    exec(compile(code, f"{name}-{number}", "exec"), {})


def test_configs_are_valid():
    """Every block of YAML with sections of a config, and every line that describes a source."""
    configs = sources = 0
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            parse_config(yaml.safe_load(block), str(page))
            configs += 1
        for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE):
            first = block.strip().split(":")[0]
            if first in Config.model_fields and "..." not in block:
                parse_config(yaml.safe_load(block), f"{page}: {block}")
                configs += 1
        for line in re.findall(r"^ +- (\{source: .*\})", text, re.MULTILINE):
            SourceConfig.model_validate(yaml.safe_load(line))
            sources += 1
    assert configs >= 6
    assert sources >= 10


def test_the_readme_compares_what_was_measured():
    """Its table says what ``make bench-quick`` left behind."""
    (row,) = json.loads((ROOT / "benchmarks" / "results" / "quick.json").read_text())["rows"]
    seconds = {name: times["step"] for name, times in row["median_seconds"].items()}
    mib = {name: peak["update"] / 2**20 for name, peak in row["peak_bytes"].items()}
    text = (ROOT / "README.md").read_text()
    step = (
        f"| {seconds['ours']:.2f} s | {seconds['trl_tuned']:.2f} s tuned, {seconds['trl_default']:.2f} s as it comes |"
    )
    assert step in text
    assert f"| {mib['ours']:.0f} MiB | {mib['trl_tuned']:.0f} MiB tuned |" in text
    work = row["workload"]
    assert (work["length"], work["group"], work["completion"]) == (300, 8, 64)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{name}: {target}"
        if name.startswith("docs/"):
            assert (ROOT / "docs") in file.resolve().parents, f"{name}: {target} is not part of the site"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{name}: {target}"


def test_the_site_shows_every_page():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    shown = set(re.findall(r"[\w/-]+\.md", str(settings["nav"])))
    assert shown == {str(page.relative_to(ROOT / "docs")) for page in PAGES if (ROOT / "docs") in page.parents}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; a warning fails whoever asks for it."""
    if find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed; make docs builds the site")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(out)]
    built = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""}
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return out


def test_the_site_builds_without_warnings_and_without_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text()
        fetched = re.findall(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"(https?://[^\"]*)", text)
        assert not fetched, f"{page.name} fetches {fetched[0]}"


@pytest.mark.skipif(browser.missing() is not None, reason=browser.missing() or "")
def test_pages_opened_as_files_can_be_searched_and_cut_nothing(site):
    with browser.chromium() as chromium:
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        fetched = []
        page.on("request", lambda request: fetched.append(request.url))
        page.goto((site / "rewards.html").as_uri())
        page.locator("input.md-search__input").click()
        page.keyboard.type("calibration")
        page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
        assert "report.html" in page.locator(".md-search-result__item a").first.get_attribute("href")
        assert all(url.startswith(("file:", "data:")) for url in fetched)
        for name in ("rewards", "evaluation"):
            for width in (1280, 768, 390):
                page.set_viewport_size({"width": width, "height": 900})
                page.goto((site / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
                assert page.eval_on_selector_all("pre > code", cut) == 0
                broken = "all => all.filter(one => one.getClientRects().length > 1).length"
                assert page.eval_on_selector_all("td:first-child code", broken) == 0
