"""The report of a real run in a real browser: clicks change what is shown, and boxes lie where the JSON says."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image
from support import browser

from visual_rft.config.config import parse_config
from visual_rft.data.leakage import Leakage, Pair
from visual_rft.report.page import write_report
from visual_rft.report.reading import read_run
from visual_rft.report.view import server_of
from visual_rft.training.rft import train

pytestmark = pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))

STEPS, PROMPTS, GROUP = 3, 2, 4
COLOURS = ["#3b82f6", "#f97316", "#a855f7", "#ec4899"]
TRUTH = "#22c55e"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run of the embedded model."""
    folder = tmp_path_factory.mktemp("report") / "run"
    values = {
        "data": {
            "train": [{"source": "digits", "split": "train", "count": 8, "max_objects": 1}],
            "evaluation": [{"source": "digits", "split": "test", "count": 4, "max_objects": 1, "seed": 1}],
        },
        "rollout": {"group_size": GROUP, "max_new_tokens": 48},
        "objective": {"beta": 0.0},
        "optimizer": {"learning_rate": 1e-4},
        "run": {"folder": str(folder), "steps": STEPS, "prompts_per_batch": PROMPTS, "evaluation_examples": 3},
    }
    train(parse_config(values, "test"))
    return folder


@pytest.fixture(scope="module")  # while one is open, another file cannot open one in the same process
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture
def opened(chromium, run_folder):
    """Opens the run's own report; afterwards nothing may have been logged, thrown or fetched."""
    contexts, complaints = [], []

    def opens(address: str | None = None, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        own = address or (run_folder / "report.html").as_uri()
        allowed = (own, "data:")
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(allowed) else None)
        page.goto(own)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert complaints == []


def rows(folder: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts" / f"step-{step:06d}.jsonl").read_text().splitlines()]


def ids(page) -> list[str]:
    return page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")


def test_it_opens_and_shows_the_last_step(opened, run_folder):
    page = opened()
    assert page.title() == "run · Visual-RFT"
    assert page.locator("#step-label").inner_text() == "3 of 3"
    assert ids(page) == [row["id"] for row in rows(run_folder, 2)]
    charts = page.eval_on_selector_all(
        "#charts .chart, #charts-flat .chart", "all => all.map(one => one.dataset.chart)"
    )
    assert {"reward", "reward/iou", "reward/confidence", "reward/format", "length", "zero_std_share", "grad_norm",
            "entropy_estimate", "AP"} <= set(charts)  # fmt: skip
    assert "kl" not in charts, "there is no reference, so there is no KL"
    assert page.locator("[data-example]").count() == 3
    assert page.locator("[data-example]").first.locator("figure.picture").count() == 2


def test_every_answer_is_there_with_its_numbers(opened, run_folder):
    page = opened()
    for card, row in zip(page.locator(".card").all(), rows(run_folder, 2), strict=True):
        replies = card.locator(".reply").all()
        assert len(replies) == GROUP
        for reply, completion in zip(replies, row["completions"], strict=True):
            assert float(reply.locator(".meter").inner_text()) == pytest.approx(completion["total"], abs=0.006)
            advantage = reply.locator(".advantage").inner_text().replace("\N{MINUS SIGN}", "-")
            assert float(advantage) == pytest.approx(completion["advantage"], abs=0.006)
            parts = re.findall(r"(\w+) ([\d.]+)", reply.locator(".parts").inner_text())
            assert [name for name, _ in parts] == list(completion["rewards"])
            reply.locator("> summary").click()
            assert reply.locator(".full .code").last.text_content() == completion["text"]
            if completion["failure"]:
                assert completion["failure"] in reply.locator(".full").inner_text()
            thought = re.search(r"<think>(.*?)</think>", completion["text"])
            assert reply.locator("[data-thought]").inner_text() == thought[1]


def test_the_slider_the_buttons_and_the_arrows_change_the_step(opened, run_folder):
    page = opened()
    slider = page.locator("#step")
    slider.evaluate("s => { s.value = 0; s.dispatchEvent(new Event('input')) }")
    assert ids(page) == [row["id"] for row in rows(run_folder, 0)]
    page.keyboard.press("ArrowRight")
    assert page.locator("#step-label").inner_text() == "2 of 3"
    page.locator("#next").click()
    assert ids(page) == [row["id"] for row in rows(run_folder, 2)]
    assert page.locator("#next").is_disabled()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#step-label").inner_text() == "2 of 3", "one step, with the focus on the slider too"
    chart = page.locator("[data-chart='reward'] svg")
    size = chart.bounding_box()
    chart.click(position={"x": 0.15 * size["width"], "y": size["height"] / 2})
    assert page.locator("#step-label").inner_text() == "1 of 3"


def all_rows(folder: Path) -> list[dict]:
    return [row for step in range(STEPS) for row in rows(folder, step)]


@pytest.mark.parametrize(
    ("button", "fits"),
    [
        ("equal", lambda row: len({c["total"] for c in row["completions"]}) == 1),
        ("failed", lambda row: any(c["failure"] for c in row["completions"])),
        ("truncated", lambda row: any(c["truncated"] for c in row["completions"])),
    ],
)
def test_filters_show_what_fits_and_nothing_else(opened, run_folder, tmp_path, button, fits):
    """One group of each kind is made in a copy, because a short run need not have them all."""
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    file = folder / "rollouts" / "step-000001.jsonl"
    changed = rows(run_folder, 1)
    changed[0]["completions"] = [changed[0]["completions"][0]] * GROUP
    changed[1]["completions"][0].update(failure="no answer block", answer=None)
    changed[1]["completions"][1]["truncated"] = True
    file.write_text("".join(json.dumps(row) + "\n" for row in changed))
    write_report([read_run(folder)], folder / "report.html")
    page = opened((folder / "report.html").as_uri())
    page.locator("#scope").click()
    assert page.locator("#count").inner_text() == f"{STEPS * PROMPTS} groups"
    page.locator(f"[data-filter='{button}']").click()
    wanted = [row["id"] for row in all_rows(folder) if fits(row)]
    assert ids(page) == wanted
    assert 1 <= len(wanted) < STEPS * PROMPTS
    page.locator(f"[data-filter='{button}']").click()
    assert len(ids(page)) == STEPS * PROMPTS


def test_search_and_order(opened, run_folder):
    page = opened()
    page.locator("#scope").click()
    groups = all_rows(run_folder)
    page.locator("#order").select_option("best")
    means = [sum(c["total"] for c in row["completions"]) for row in groups]
    best = groups[means.index(max(means))]
    assert ids(page)[0] == best["id"]
    page.locator("#order").select_option("worst")
    assert ids(page)[0] == groups[means.index(min(means))]["id"]
    page.locator("body").press("Escape")
    page.locator("#search").fill(best["id"].upper())
    assert set(ids(page)) == {best["id"]}
    page.locator("#search").fill("no such words")
    assert page.locator("#cards").inner_text() == "No group fits these filters."


def near(picture: Image.Image, x: float, y: float, colour: str, reach: int) -> bool:
    """Whether a pixel close to (x, y) has about this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return any(
        max(abs(a - b) for a, b in zip(picture.getpixel((round(x) + i, round(y) + j))[:3], wanted, strict=True)) <= 40
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
    )


def edges(box: list[float]) -> list[tuple[float, float]]:
    """Points on the four sides of a box, away from its corners."""
    x1, y1, x2, y2 = box
    return [
        point
        for t in (0.2, 0.35, 0.65, 0.8)
        for x, y in [(x1 + t * (x2 - x1), y1 + t * (y2 - y1))]
        for point in ((x, y1), (x, y2), (x1, y), (x2, y))
    ]


def test_boxes_lie_where_the_json_says(opened, run_folder):
    """Pixels of a screenshot: each box's colour is on its sides and not in the middle between them."""
    page = opened(device_scale_factor=2)
    checked = 0
    for card, row in zip(page.locator(".card").all(), rows(run_folder, 2), strict=True):
        figure = card.locator("figure.picture")
        width, height = row["image_size"]
        for number, completion in [(None, None), *enumerate(row["completions"])]:
            if number is None:
                boxes, colour = row["truth"]["boxes"], TRUTH
                page.mouse.move(0, 0)
            elif completion["answer"] is None:
                continue
            else:
                boxes, colour = completion["answer"]["boxes"], COLOURS[number]
                card.locator(f"[data-reply='{number}'] > summary").hover()  # the others fade
            picture = Image.open(io.BytesIO(figure.screenshot()))
            across, down = picture.width / width, picture.height / height
            for box in boxes:
                points = [
                    (x * across, y * down)
                    for x, y in edges(box)
                    if 4 < x * across < picture.width - 4 and 4 < y * down < picture.height - 4
                ]
                hits = [near(picture, x, y, colour, 2) for x, y in points]
                # A prediction may lie under the truth along a side.
                assert sum(hits) >= (len(hits) if number is None else 0.5 * len(hits)), (row["id"], number)
                if number is None:
                    x, y = ((box[0] + box[2]) / 2 * across, (box[1] + box[3]) / 2 * down)
                    assert not near(picture, x, y, colour, 2)
                checked += 1
        drawn = figure.locator("[data-truth] [data-box]").evaluate_all("all => all.map(one => one.dataset.box)")
        assert [[float(v) for v in box.split(",")] for box in drawn] == row["truth"]["boxes"]
    assert checked >= 2 + PROMPTS


def test_everything_works_from_the_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#step-label").inner_text() == "3 of 3", "arrows in the search field stay there"
    summary = page.locator("[data-reply='0'] > summary").first
    summary.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("[data-reply='0']").first.get_attribute("open") is not None
    unnamed = page.eval_on_selector_all(
        "button, input, select",
        "all => all.filter(e => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).length",
    )
    assert unnamed == 0


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_page_does_not_scroll_sideways(opened, width):
    page = opened(viewport={"width": width, "height": 800})
    folded = page.locator("section.folded .unfold:visible")
    while folded.count():
        folded.first.click()
    page.locator("#more-charts summary").click()
    for summary in page.locator("#facts summary").all():
        summary.click()
    page.locator("[data-reply='0'] > summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_sections_fold_and_a_link_opens_one(opened):
    page = opened(viewport={"width": 390, "height": 800})
    assert page.locator("#examples .pair").first.is_visible(), "the first section with a heading is open"
    assert not page.locator("#cards").is_visible()
    page.locator("#rollouts .unfold").click()
    assert page.locator("#cards").is_visible()
    assert page.locator("#rollouts .unfold").get_attribute("aria-expanded") == "true"
    page.locator("#rollouts .unfold").click()
    assert not page.locator("#cards").is_visible()
    page.evaluate("location.hash = '#curves'")
    page.locator("#charts .chart").first.wait_for(state="visible")
    wide = opened(viewport={"width": 1280, "height": 800})
    assert wide.locator("#cards").is_visible()
    assert not wide.locator("#rollouts .unfold").is_visible()


def changed_examples(folder: Path, totals: dict[int, list[float]]) -> None:
    """Give the kept examples of each evaluation these rewards."""
    for step, values in totals.items():
        file = folder / "evaluation" / f"step-{step:06d}.json"
        content = json.loads(file.read_text())
        for example, total in zip(content["examples"], values, strict=True):
            example["completion"]["total"] = total
        file.write_text(json.dumps(content))


def test_before_and_after_is_second_sorted_by_change_and_names_what_got_worse(opened, run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    changed_examples(folder, {0: [1.0, 1.0, 1.0], STEPS: [0.25, 2.0, 1.0]})
    for step, values in ((0, {"AP": 0.5, "mean_iou": 0.25}), (STEPS, {"AP": 0.375, "mean_iou": 0.75})):
        file = folder / "evaluation" / f"step-{step:06d}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    write_report([read_run(folder)], folder / "report.html")
    page = opened((folder / "report.html").as_uri())
    assert page.eval_on_selector_all("main > section", "all => all.map(one => one.id)")[:2] == ["overview", "examples"]
    gains = page.eval_on_selector_all("[data-example]", "all => all.map(one => Number(one.dataset.gain))")
    assert gains == [1, 0, -0.75]
    worse = page.locator("[data-example]").last
    assert "worse" in worse.get_attribute("class").split()
    assert worse.locator("header").inner_text().endswith("worse \N{MINUS SIGN}0.75")
    summary = page.locator("#example-summary").inner_text()
    assert summary.startswith("1 better, 1 equal, 1 worse: ")
    assert summary.endswith(worse.locator("header b").inner_text())
    page.get_by_label("order of the questions").select_option("worse")
    gains = page.eval_on_selector_all("[data-example]", "all => all.map(one => Number(one.dataset.gain))")
    assert gains == [-0.75, 0, 1]
    rows = page.locator("#changes tbody tr")
    gains = rows.evaluate_all("all => all.map(one => Number(one.dataset.gain))")
    assert gains == sorted(gains, reverse=True)
    ap = page.locator("[data-number='AP']")
    assert ap.inner_text().split("\t") == ["AP", "0.500", "0.375", "\N{MINUS SIGN}0.125 worse"]
    cells = rows.evaluate_all("all => all.map(one => one.cells[1].textContent)")
    assert len({len(cell.partition(".")[2]) for cell in cells}) == 1, "the numbers of a column share their decimals"


def questions(page) -> list[str]:
    return page.eval_on_selector_all("[data-question]", "all => all.map(one => one.dataset.question)")


def answers_of(folder: Path, step: int) -> list[dict]:
    text = (folder / "evaluation" / f"step-{step:06d}.answers.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_gallery_shows_all_held_out_questions_and_filters_them(opened, run_folder, tmp_path):
    """The answers are made, one of each kind, because a random model writes none that can be read."""
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    kept = answers_of(run_folder, STEPS)
    assert {row["id"] for row in kept} == {row["id"] for row in answers_of(run_folder, 0)}
    assert all((folder / row["images"][0]).is_file() for row in kept)
    for n, row in enumerate(kept):
        boxes = row["truth"]["boxes"]
        given = [boxes, [], [*boxes, boxes[0]]][min(n, 2)]
        answer = {"boxes": given, "confidence": [0.9] * len(given)}
        row["completion"].update(answer=answer, failure=None, total=[3.0, 0.0, 2.0][min(n, 2)])
    file = folder / "evaluation" / f"step-{STEPS:06d}.answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    write_report([read_run(folder)], folder / "report.html")
    page = opened((folder / "report.html").as_uri())
    names = [row["id"] for row in kept]
    assert set(questions(page)) == set(names)
    assert questions(page)[0] == names[1], "the worst first"
    page.locator("#gallery-order").select_option("best")
    assert questions(page)[0] == names[0]
    page.locator("[data-kind='missed']").click()
    assert questions(page) == [names[1]]
    page.locator("[data-kind='missed']").click()
    page.locator("[data-kind='duplicate']").click()
    assert set(questions(page)) == set(names[2:])
    card = page.locator("[data-question]").first
    drawn = card.locator("[data-answer] [data-box]").count()
    assert drawn == len(next(row for row in kept if row["id"] == questions(page)[0])["completion"]["answer"]["boxes"])
    page.locator("[data-kind='duplicate']").click()
    category = kept[0]["question"]["category"]
    page.locator("#gallery-class").select_option(category)
    assert set(questions(page)) == {row["id"] for row in kept if row["question"]["category"] == category}
    page.locator("#gallery-class").select_option("")
    page.locator("#gallery-search").fill(names[0])
    assert questions(page) == [names[0]]
    shown = page.eval_on_selector_all("[data-drawing]", "all => all.map(one => one.dataset.drawing)")
    assert {"mistakes", "classes", "precision-recall", "calibration"} <= set(shown)
    page.set_viewport_size({"width": 320, "height": 800})
    page.evaluate("location.hash = '#evaluation'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_curves_that_say_nothing_fold_away(opened, run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for n, row in enumerate(rows):
        row.update({"reward/format": 1.0, "truncated_share": 0.0, "zero_std_share": 0.5, "length": 7.0 + n})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report([read_run(folder)], folder / "report.html")
    page = opened((folder / "report.html").as_uri())
    names = "all => all.map(one => one.dataset.chart)"
    flat = page.eval_on_selector_all("#charts-flat .chart", names)
    assert {"reward/format", "truncated_share"} <= set(flat)
    assert {"zero_std_share", "length"} <= set(page.eval_on_selector_all("#charts .chart", names))
    assert not page.locator("#charts-flat .chart").first.is_visible()
    assert "completions cut off" in page.locator("#flat-names").inner_text()


def test_the_header_says_that_held_out_images_are_trained_on(opened, run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    data = json.loads((folder / "data.json").read_text())
    leakage = Leakage([Pair("<a.png>", "<a.png>", True), Pair("b.png", "c.png", False)], (40, 9), (40, 9), 0.1)
    sentence = "2 of 40 held-out images are training images or look like one: <a.png>, b.png"
    (folder / "data.json").write_text(json.dumps({**data, "leakage": leakage.as_json()}))
    write_report([read_run(folder)], folder / "report.html")
    page = opened((folder / "report.html").as_uri())
    assert sentence in page.locator("#overview .notice.leak").inner_text()
    assert opened().locator(".notice.leak").count() == 0


def test_light_and_dark(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    one, other = light.evaluate(paper), dark.evaluate(paper)
    assert sum(map(int, re.findall(r"\d+", one)[:3])) > 600 > 150 > sum(map(int, re.findall(r"\d+", other)[:3]))
    light.locator("#theme").click()
    assert light.evaluate(paper) == other
    light.locator("#theme").click()
    assert light.evaluate(paper) == one


def test_several_runs_are_compared(opened, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "other")
    file = tmp_path / "other" / "config.yaml"
    file.write_text(file.read_text().replace("learning_rate: 0.0001", "learning_rate: 0.002"))
    write_report([read_run(run_folder), read_run(tmp_path / "other")], tmp_path / "both.html")
    page = opened((tmp_path / "both.html").as_uri())
    sections = page.eval_on_selector_all("main > section", "all => all.map(one => one.id)")
    assert sections[:3] == ["overview", "curves", "compared"], "a comparison begins with its curves"
    fields = page.locator("#comparison th[scope=row]").all_inner_texts()
    assert [field for field in fields if "." in field] == ["optimizer.learning_rate"], "only where they differ"
    assert page.locator("[data-chart='reward'] path.strong").count() == 2
    assert page.locator("[data-example]").first.locator("figure.picture").count() == 3
    page.locator("#run").select_option("1")
    assert ids(page) == [row["id"] for row in rows(run_folder, 2)]


def test_hostile_text_is_shown_and_does_nothing(opened, run_folder, tmp_path):
    text = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'><svg onload='window.hit = 1'>"
    shutil.copytree(run_folder, tmp_path / "run")
    changed = rows(run_folder, 2)
    changed[0].update(id=text, prompt=text, question={"category": text})
    changed[0]["completions"][0].update(text=text, failure=text, notes=[text], answer=None)
    (tmp_path / "run" / "rollouts" / "step-000002.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    write_report([read_run(tmp_path / "run")], tmp_path / "run" / "report.html")
    page = opened((tmp_path / "run" / "report.html").as_uri())
    page.locator("[data-reply='0'] > summary").first.click()
    assert page.locator(".card .full").first.text_content().count(text) >= 3
    assert page.evaluate("window.hit") is None
    assert page.locator(".card img[onerror], .card svg[onload], .card script").count() == 0


def test_the_live_view_picks_up_a_new_step_and_keeps_the_place(opened, run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    later = {name: (folder / name).read_text() for name in ("metrics.jsonl", "rollouts/step-000002.jsonl")}
    (folder / "rollouts" / "step-000002.jsonl").unlink()
    (folder / "summary.json").unlink()
    (folder / "metrics.jsonl").write_text("".join(later["metrics.jsonl"].splitlines(keepends=True)[:2]))
    from playwright.sync_api import expect

    server = server_of([folder], ["run"], 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        follows, reads = opened(address), opened(address)
        assert follows.locator("#step-label").inner_text() == "2 of 2"
        assert "2 of 3 steps" in follows.locator("#notices").inner_text()
        reads.locator("#previous").click()
        reads.locator("[data-reply='1'] > summary").first.click()
        reads.locator(".picture img").first.evaluate("picture => picture.decode()")
        (folder / "rollouts" / "step-000002.jsonl").write_text(later["rollouts/step-000002.jsonl"])
        (folder / "metrics.jsonl").write_text(later["metrics.jsonl"])
        for page, label in ((follows, "3 of 3"), (reads, "1 of 3")):
            expect(page.locator("#step-label")).to_have_text(label, timeout=10_000)
        assert ids(follows) == [row["id"] for row in rows(run_folder, 2)]
        assert ids(reads) == [row["id"] for row in rows(run_folder, 0)]
        assert reads.locator("[data-reply='1']").first.get_attribute("open") is not None
    finally:
        for page in (follows, reads):
            page.goto("about:blank")
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_history_of_the_questions_is_a_table(opened, run_folder):
    page = opened()
    fold = page.locator("details.fold", has_text="Questions of training")
    fold.locator("summary").click()
    rows = fold.locator("tbody tr")
    noted = [json.loads(line)["questions"] for line in (run_folder / "history.jsonl").read_text().splitlines()]
    asked = {name for questions in noted for name in questions}
    assert f"{len(asked)} asked" in fold.locator("summary").inner_text()
    assert rows.count() == len(asked)
    assert rows.first.locator("th").inner_text() in asked
