"""Screenshots for the docs: a run's report (light, dark, held-out answers, a phone's width), a comparison, the site.

    python scripts/screenshots.py --run runs/demo
    python scripts/screenshots.py --compare runs/slow runs/fast --site site

Writes report-light.png, report-held-out.png, report-dark.png and report-narrow.png, report-comparison.png, and site.png
into docs/images, each below 250 KB. Needs Chromium and the package playwright; the site is made by ``make docs``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import browser  # noqa: E402 (the tests' browser)

from visual_rft.report.page import write_report  # noqa: E402
from visual_rft.report.reading import read_run  # noqa: E402

LARGEST = 250_000
"""Bytes of a picture; a repository keeps every version of it."""
SHOTS = {
    "report-light": ("#overview", {"viewport": {"width": 1280, "height": 1500}, "color_scheme": "light"}),
    "report-held-out": ("#evaluation", {"viewport": {"width": 1280, "height": 1300}, "color_scheme": "light"}),
    "report-dark": ("#rollouts", {"viewport": {"width": 1280, "height": 1020}, "color_scheme": "dark"}),
    "report-narrow": (
        "#rollouts",
        {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5, "color_scheme": "light"},
    ),
}


def main() -> None:
    """Make the pictures of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="whose report is shown")
    parser.add_argument("--step", type=int, default=40, help="of the rollouts that are shown (default 40)")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="RUN", help="runs whose comparison is shown")
    parser.add_argument("--site", type=Path, metavar="DIR", help="the built site")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    if browser.missing():
        sys.exit(f"screenshots: {browser.missing()}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium:
        page_file = Path(folder) / "report.html"
        if arguments.run:
            run = read_run(arguments.run)
            place = min(range(len(run.rollout_steps)), key=lambda i: abs(run.rollout_steps[i] - arguments.step))
            write_report([run], page_file)
            for name, (section, options) in SHOTS.items():
                keep(of_report(chromium, page_file, section, options, place), arguments.out / f"{name}.png")
        wide = {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"}
        if arguments.compare:
            write_report([read_run(path) for path in arguments.compare], page_file)
            keep(opened(chromium, page_file, wide).screenshot(), arguments.out / "report-comparison.png")
        if arguments.site:
            keep(opened(chromium, arguments.site / "quickstart.html", wide).screenshot(), arguments.out / "site.png")


def opened(chromium: Any, file: Path, options: dict[str, Any]) -> Any:
    """A page of the browser that shows a file."""
    page = chromium.new_context(**options).new_page()
    page.goto(file.absolute().as_uri())
    return page


def of_report(chromium: Any, file: Path, section: str, options: dict[str, Any], place: int) -> bytes:
    """A section of a report; of its rollouts those of step number ``place``, the first answer unfolded."""
    page = opened(chromium, file, options)
    page.locator("#step").evaluate(f"s => {{ s.value = {place}; s.dispatchEvent(new Event('input')) }}")
    page.evaluate(f"location.hash = '{section}'")  # on a phone this opens the section, too
    page.locator(f"{section}:not(.folded)").wait_for()
    page.evaluate(f"document.querySelector('{section}').scrollIntoView()")
    if section == "#rollouts":
        page.locator("[data-reply='0'] > summary").first.click()
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
    content: bytes = page.screenshot()
    return content


def keep(content: bytes, file: Path) -> None:
    """Save a screenshot and say how large it is."""
    print(f"{file}: {save_small(content, file) / 1000:.0f} KB")


def save_small(content: bytes, file: Path) -> int:
    """Save a screenshot with as many colours as fit into ``LARGEST`` bytes; returns the size."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.save(file, optimize=True)
    for colours in (256, 128, 64):
        if file.stat().st_size < LARGEST:
            break
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
    return file.stat().st_size


if __name__ == "__main__":
    main()
