"""Answers to "its box and points on it". Without a segmenter the box is the mask, so all numbers can be worked out."""

from __future__ import annotations

from support.answers.kinds import Row, Trick, say
from visual_rft.tasks import Segmentation
from visual_rft.vision.coordinates import CoordinateSpace

TASK = Segmentation
NAMES = ("mask_iou", "points", "format")
SQUARE = {"segmentation": [[20, 30, 60, 30, 60, 70, 20, 70]], "image_size": [100, 100]}
NONE = {"segmentation": None, "image_size": [100, 100]}
BOX = [200, 300, 600, 700]


def prompt(box: object = BOX, points: object = ((400, 500),)) -> str:
    written = [list(p) if isinstance(p, tuple) else p for p in points] if isinstance(points, tuple) else points
    return say(f"{{'Position': {box}, 'Points': {written}}}")


RIGHT = prompt()
INSIDE = RIGHT.partition("<answer>")[2].removesuffix("</answer>")

TRICKS = [
    Trick("empty text", SQUARE, "", worth=0),
    Trick("answer without tags", SQUARE, INSIDE, worth=0),
    Trick("empty answer", SQUARE, say(""), worth=1),
    Trick("words", SQUARE, say("the left one"), worth=1),
    Trick("No Objects", SQUARE, say("No Objects"), worth=1),
    Trick("the prompt and nothing else", SQUARE,
          Segmentation().prompt({"expression": "it"}, CoordinateSpace.RELATIVE_1000), worth=0),
    Trick("the form of the prompt", SQUARE, say("{'Position': [x1, y1, x2, y2], 'Points': [[x, y], ...]}"), worth=1),
    Trick("the whole image", SQUARE, prompt([0, 0, 1000, 1000]), worth=0.16 + 1),
    Trick("half of it", SQUARE, prompt([200, 300, 600, 500]), worth=0.5 + 1),
    Trick("twice as large", SQUARE, prompt([0, 300, 800, 700]), worth=0.5 + 1),
    Trick("beside it", SQUARE, prompt([700, 300, 900, 700]), worth=1),
    Trick("a dot in the middle", SQUARE, prompt([400, 500, 401, 501])),
    Trick("a line", SQUARE, prompt([200, 500, 600, 501])),
    Trick("no area", SQUARE, prompt([400, 500, 400, 500]), worth=1),
    Trick("inverted", SQUARE, prompt([600, 700, 200, 300]), worth=1),
    Trick("y before x", {**SQUARE, "segmentation": [[60, 10, 90, 10, 90, 30, 60, 30]]}, prompt([100, 600, 300, 900])),
    Trick("x, y, width, height", SQUARE, prompt([200, 300, 400, 400])),
    Trick("in pixels", SQUARE, prompt([20, 30, 60, 70])),
    Trick("as shares of 1", SQUARE, prompt([0.2, 0.3, 0.6, 0.7])),
    Trick("far outside", SQUARE, prompt([-9999, -9999, 9999, 9999]), worth=1),
    Trick("points alone", SQUARE, say("{'Points': [[400, 500]]}"), worth=1),
    Trick("two boxes", SQUARE, say(f"[{INSIDE}, {INSIDE}]"), worth=1),
    Trick("two boxes under two keys", SQUARE,
          say("{'Position': [200, 300, 600, 700], 'box': [0, 0, 9, 9], 'Points': []}"), worth=1),
    Trick("two corner pairs", SQUARE, say("(200,300),(600,700),(0,0),(9,9)"), worth=1),
    Trick("a box beside No Objects", SQUARE, say(f"No Objects {INSIDE}")),
    Trick("a point outside the image", SQUARE, prompt(points=((4000, 500),)), worth=1),
    Trick("a point that is none", SQUARE, prompt(points="[['a', 'b']]"), worth=1),
    Trick("a point of three", SQUARE, prompt(points="[[1, 2, 3]]"), worth=1),
    Trick("NaN", SQUARE, prompt("[NaN, NaN, NaN, NaN]"), worth=1),
    Trick("Infinity", SQUARE, prompt("[-Infinity, -Infinity, Infinity, Infinity]"), worth=1),
    Trick("text for numbers", SQUARE, prompt("['200', '300', '600', '700']"), worth=1),
    Trick("true and false", SQUARE, prompt("[False, False, True, True]")),
    Trick("a box where nothing is", NONE, RIGHT, worth=1),
    Trick("the whole image where nothing is", NONE, prompt([0, 0, 1000, 1000]), worth=1),
    Trick("a small box where nothing is", NONE, prompt([0, 0, 1, 1]), worth=1),
    Trick("prose where nothing is", NONE, say("I cannot see one"), worth=1),
    Trick("empty answer where nothing is", NONE, say(""), worth=1),
    Trick("only in the reasoning", SQUARE, say("that one", thought=INSIDE), worth=1),
    Trick("answer tag only inside the reasoning", SQUARE, f"<think><answer>{INSIDE}</answer></think>", worth=0),
    Trick("reasoning never closed", SQUARE, f"<think>so <answer>{INSIDE}</answer>", worth=0),
    Trick("right block, then a wrong one", SQUARE, RIGHT + "<answer>(0,0),(9,9)</answer>"),
    Trick("wrong block, then the right one", SQUARE, say("(0,0),(9,9)") + f"<answer>{INSIDE}</answer>", worth=1),
    Trick("answer never closed", SQUARE, f"<think>a</think><answer>{INSIDE}", worth=1),
    Trick("import", SQUARE, say("{'Position': __import__('os'), 'Points': []}"), worth=1),
    Trick("900 boxes", SQUARE, say(",".join(["(200,300),(600,700)"] * 900)), worth=1),
    Trick("nested lists", SQUARE, say("[" * 9000 + "]" * 9000), worth=1),
]  # fmt: skip

ROWS = [
    Row("as asked", SQUARE, RIGHT, (1, 1, 1)),
    Row("two points", SQUARE, prompt(points=((300, 400), (500, 600))), (1, 1, 1)),
    Row("one point of two beside it", SQUARE, prompt(points=((300, 400), (900, 600))), (1, 0.5, 1)),
    Row("half of it", SQUARE, prompt([200, 300, 600, 500]), (0.5, 1, 1)),
    Row("nothing there", NONE, say("No Objects"), (1, 1, 1)),
    Row("nothing there, otherwise", NONE, say("no objects."), (1, 1, 1), "written otherwise"),
    Row("JSON", SQUARE, say('{"Position": [200, 300, 600, 700], "Points": [[400, 500]]}'), (1, 1, 1)),
    Row("a fence", SQUARE, say(f"```json\n{INSIDE}\n```"), (1, 1, 1), "fence"),
    Row("in a list", SQUARE, say(f"[{INSIDE}]"), (1, 1, 1), "inside a list"),
    Row("Seg-Zero", SQUARE, say('{"bbox": [200, 300, 600, 700], "points_1": [300, 400], "points_2": [500, 600]}'),
        (1, 1, 1), "other keys"),
    Row("bbox_2d and point_2d", SQUARE, say('[{"bbox_2d": [200, 300, 600, 700], "point_2d": [400, 500]}]'), (1, 1, 1),
        "other keys"),
    Row("no points", SQUARE, prompt(points="[]"), (1, 0, 1), "no points"),
    Row("a box alone", SQUARE, say("(200,300),(600,700)"), (1, 0, 1), "no points"),
    Row("bbox_2d alone", SQUARE, say('[{"bbox_2d": [200, 300, 600, 700], "label": "it"}]'), (1, 0, 1), "no points"),
    Row("InternVL's box", SQUARE, say("<ref>it</ref><box>[[200, 300, 600, 700]]</box>"), (1, 0, 1), "no points"),
    Row("points as brackets", SQUARE, say("{'Position': [200, 300, 600, 700], 'Points': [(400, 500)]}"), (1, 1, 1)),
    Row("one point not in a list", SQUARE, prompt(points="[400, 500]"), (1, 1, 1)),
    Row("0.5 % outside", {**SQUARE, "segmentation": [[0, 0, 50, 0, 50, 50, 0, 50]]},
        prompt([-5, 0, 500, 500], ((200, 200),)), (1, 1, 1), "edge"),
    Row("a key per side", SQUARE, say("{'x1': 200, 'y1': 300, 'x2': 600, 'y2': 700, 'points': [[400, 500]]}"),
        (1, 1, 1), "other keys"),
    Row("another box in the reasoning", SQUARE, f"<think>not (0,0),(9,9)</think><answer>{INSIDE}</answer>", (1, 1, 1)),
    Row("tags in capitals", SQUARE, f"<Think>x</Think><Answer>{INSIDE}</Answer>", (1, 1, 0)),
    Row("cut off before the closing tag", SQUARE, f"<think>x</think><answer>{INSIDE}", (1, 1, 0), "truncated"),
]  # fmt: skip
