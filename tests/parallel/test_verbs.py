"""The verbs that several processes share, beside what one process finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops
from support.evidence import cells_of
from support.shared_runs import checked, reproduced, run, run_alone, run_settings

from visual_rft.evidence.runner import families


def lines(said: str) -> list[str]:
    """All but those about memory, which are of one of the processes."""
    return [line for line in said.splitlines() if "memory" not in line]


def test_check_finds_what_one_process_finds(two, model_folders, tmp_path):
    data = {"train": [{"source": "digits", "count": 9}], "evaluation": [{"source": "digits", "count": 2, "seed": 1}]}
    for name, most, passes in (("right", 400, True), ("cut off", 3, False)):
        values = run_settings(tmp_path / "run", model_folders["qwen3_vl"], data=data, rollout={"max_new_tokens": most})
        alone = checked(values, 7, tmp_path / f"{name}.png")
        assert alone[0] is passes
        assert ("VIOLATION" in alone[1]) is not passes
        first, second = two.ask(checked, values, 7, tmp_path / f"{name}-of-two.png")
        assert first[0] is passes
        assert lines(first[1]) == lines(alone[1].replace(f"{name}.png", f"{name}-of-two.png"))
        assert second == (passes, "")
        pictures = [Image.open(tmp_path / f"{name}{end}.png").convert("RGB") for end in ("", "-of-two")]
        assert ImageChops.difference(*pictures).getbbox() is None


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "few-shot-detection.json").read_text())["rows"]


def test_reproduce_divides_the_runs(two, tmp_path):
    assert two.ask(reproduced, tmp_path / "two") == [0, 0]
    assert reproduced(tmp_path / "one") == 0
    names = sorted(file.name for file in (tmp_path / "two/few-shot-detection/cells").glob("*.json"))
    assert names == ["handwriting-base.json", "handwriting-k1-seed0-rft.json", "handwriting-k1-seed1-rft.json"]
    found, expected = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
    for row in (*found, *expected):
        row.pop("cpu_seconds", None)
    assert found == expected  # bit by bit: a run is one process's own
    before = {name: (tmp_path / "two/few-shot-detection/cells" / name).stat().st_mtime_ns for name in names}
    assert two.ask(reproduced, tmp_path / "two") == [0, 0]
    assert before == {name: (tmp_path / "two/few-shot-detection/cells" / name).stat().st_mtime_ns for name in names}


def test_a_run_alone_is_one_process_s_own(two, model_folders, tmp_path):
    values = [run_settings(tmp_path / f"alone-{rank}", model_folders["qwen2_vl"]) for rank in range(2)]
    one, other = two.ask(run_alone, values)
    expected = run(run_settings(tmp_path / "one", model_folders["qwen2_vl"]))
    for rows in (one, other):
        assert [row["loss"] for row in rows] == [row["loss"] for row in expected]


def test_runs_that_are_matched_stay_together():
    cells = cells_of("few-shot-detection", shots=(4,), seeds=(0, 1))
    found = families(cells)
    assert sorted(cell.name for family in found for cell in family) == sorted(cell.name for cell in cells)
    for family in found:
        names = [cell.name for cell in family]
        assert len({cell.seed for cell in family}) == 1
        for place, cell in enumerate(family):
            assert {other.name for other in cell.matched} <= set(names[:place])
