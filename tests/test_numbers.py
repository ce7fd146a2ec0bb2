"""Numbers of the README and the docs are those of the committed files they are said to come from.

A block of text or a table whose numbers are measured stands between ``<!-- numbers: FILE.json -->`` and
``<!-- /numbers -->``; each number with a decimal point in it has to be in the file, rounded to as many digits. Tables
of ``visual-rft reproduce`` are made whole by a command (tests/evidence).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visual_rft.policy.stored.places import weights_fingerprint

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"<!-- numbers: (\S+) -->\n(.*?)<!-- /numbers -->", re.DOTALL)
BLOCKS = [
    pytest.param(file, text, id=f"{page.name}-{file}")
    for page in PAGES
    for file, text in BLOCK.findall(page.read_text(encoding="utf-8"))
]


def numbers_in(value: Any) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def missing(text: str, known: list[float]) -> list[str]:
    """Numbers with a decimal point that are none of those known, rounded to as many digits.

    A number that lies between two roundings (0.5625 as 0.562 or 0.563) may be written as either.

    >>> missing("0.57 and 5.7 % of 0.113", [0.5703, 0.11249, 0.113001])
    ['5.7']
    """
    written = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", text)
    return [
        number
        for number in written
        if not any(abs(float(number) - abs(v)) <= 0.5 * 10 ** -len(number.partition(".")[2]) + 1e-9 for v in known)
    ]


def ratios(content: dict[str, Any]) -> Iterator[float]:
    """How many times our seconds the others take, in a result of benchmarks/steps.py."""
    for row in content.get("rows", []):
        for times in row.get("median_seconds", {}).values():
            yield from (seconds / row["median_seconds"]["ours"][part] for part, seconds in times.items())


@pytest.mark.parametrize(("file", "text"), BLOCKS)
def test_numbers_are_those_of_the_file(file, text):
    content = json.loads((ROOT / file).read_text(encoding="utf-8"))
    known = [*numbers_in(content), *ratios(content)]
    assert re.search(r"\d\.\d", text), "a block without a number"
    assert not missing(text, known)


def test_a_wrong_number_is_found():
    assert missing("AP 0.260, 0.239 and 1.5 MiB", [0.2595, 0.2391]) == ["1.5"]
    assert missing("AP 0.261", [0.2595]) == ["0.261"]


def test_every_block_is_closed_and_the_most_important_ones_are_there():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- numbers: ") == text.count("<!-- /numbers -->") == len(BLOCK.findall(text)), page
    files = {param.values[0] for param in BLOCKS}
    assert {"docs/evidence/demo.json", "docs/evidence/binding.json", "benchmarks/results/quick.json"} <= files


def measured() -> list[Path]:
    """Files that name a base but are no result of ``visual-rft reproduce``, whose tables say it themselves."""
    files = [*(ROOT / "docs" / "evidence").glob("*.json"), *(ROOT / "benchmarks" / "results").glob("*.json")]
    contents = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(files)}
    return [file for file, content in contents.items() if "base" in content and "experiment" not in content]


@pytest.mark.parametrize("file", measured(), ids=lambda file: file.name)
def test_measured_on_the_base_that_is_in_the_package(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["base"] == weights_fingerprint("tiny"), f"of another base; measure anew: {content['command']}"


def test_the_files_of_the_demo_and_of_the_base_name_it():
    assert {file.name for file in measured()} >= {"demo.json", "binding.json"}
