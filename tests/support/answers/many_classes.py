"""Answers to "find every object of these classes"."""

from __future__ import annotations

from support.answers.kinds import Row, Trick, say
from visual_rft.tasks import ManyClasses
from visual_rft.vision.coordinates import CoordinateSpace

TASK = ManyClasses
NAMES = ("iou_balanced", "confidence_brier", "format")
PETS = {"boxes": [[10, 10, 40, 40], [50, 50, 90, 90]], "labels": ["cat", "dog"], "categories": ["bird", "cat", "dog"],
        "image_size": [100, 100]}  # fmt: skip
CATS = {**PETS, "labels": ["cat", "cat"]}
NONE = {"boxes": [], "labels": [], "categories": ["bird", "cat"], "image_size": [100, 100]}
A, B = (100, 100, 400, 400), (500, 500, 900, 900)


def item(box: object, label: object, confidence: object = 1.0) -> str:
    place = list(box) if isinstance(box, tuple) else box
    return f"{{'Position': {place}, 'Label': {label!r}, 'Confidence': {confidence}}}"


def items(*rows: str) -> str:
    return say(f"[{', '.join(rows)}]")


CAT, DOG = item(A, "cat"), item(B, "dog")
PROMPT = ManyClasses().prompt({"categories": ["cat", "dog"]}, CoordinateSpace.RELATIVE_1000)

TRICKS = [
    Trick("empty text", PETS, "", worth=0),
    Trick("list without tags", PETS, f"[{CAT}, {DOG}]", worth=0),
    Trick("empty answer", PETS, say(""), worth=1),
    Trick("prose", PETS, say("a cat and a dog"), worth=1),
    Trick("the prompt and nothing else", PETS, PROMPT, worth=0),
    Trick("the example of the prompt", PETS,
          say("[{'Position': [x1, y1, x2, y2], 'Label': class, 'Confidence': number}, ...]")),
    Trick("No Objects when there are two", PETS, say("No Objects"), worth=1),
    Trick("empty list when there are two", PETS, say("[]")),
    Trick("one of two", PETS, items(CAT), worth=0.5 + 0.5 + 1),
    Trick("labels exchanged", PETS, items(item(A, "dog"), item(B, "cat")), worth=1),
    Trick("one label wrong", PETS, items(CAT, item(B, "cat")), worth=0.5 + 0.5 + 1),
    Trick("one label for all", PETS, items(item(A, "bird"), item(B, "bird")), worth=1),
    Trick("every label on every box", PETS,
          items(*(item(box, name) for box in (A, B) for name in ("bird", "cat", "dog")))),
    Trick("a class that was not asked for", PETS, items(CAT, item(B, "hound"))),
    Trick("two names in a label", PETS, items(CAT, item(B, "cat, dog"))),
    Trick("two names, or", PETS, items(CAT, item(B, "dog or cat"))),
    Trick("a list of names in a label", PETS, items(CAT, item(B, ["dog", "cat"]))),
    Trick("a label that holds the right one", PETS, items(CAT, item(B, "not a dog"))),
    Trick("an empty label", PETS, items(CAT, item(B, ""))),
    Trick("no labels", PETS, say(f"[{{'Position': {list(A)}, 'Confidence': 1}}, {{'Position': {list(B)}}}]"), worth=1),
    Trick("two labels under two keys", PETS,
          say(f"[{CAT}, {{'Position': {list(B)}, 'Label': 'dog', 'category': 'cat', 'Confidence': 1}}]")),
    Trick("a label null", PETS, say(f"[{CAT}, {{'Position': {list(B)}, 'Label': None, 'Confidence': 1}}]")),
    Trick("the same box twice", PETS, items(CAT, DOG, DOG), worth=2 / 3 + 2 / 3 + 1),
    Trick("the same box under another label", PETS, items(CAT, DOG, item(A, "bird")), worth=2 / 3 + 2 / 3 + 1),
    Trick("the same, with confidence 0", PETS, items(CAT, DOG, item(A, "bird", 0)), worth=2 / 3 + 1 + 1),
    Trick("the whole image under each label", PETS, items(*(item((0, 0, 1000, 1000), n) for n in ("cat", "dog")))),
    Trick("one box around both", PETS, items(item((100, 100, 900, 900), "cat"))),
    Trick("hallucinated", PETS, items(CAT, DOG, item((100, 600, 300, 900), "bird"))),
    Trick("two of one class on one box", CATS, items(CAT, CAT)),
    Trick("in pixels", PETS, items(item((10, 10, 40, 40), "cat"), item((50, 50, 90, 90), "dog"))),
    Trick("as shares of 1", PETS, items(item("[0.1, 0.1, 0.4, 0.4]", "cat"), item("[0.5, 0.5, 0.9, 0.9]", "dog"))),
    Trick("inverted", PETS, items(item((400, 400, 100, 100), "cat"), item((900, 900, 500, 500), "dog")), worth=1),
    Trick("confidence 0", PETS, items(item(A, "cat", 0), item(B, "dog", 0)), worth=1 + 0 + 1),
    Trick("confidence 7", PETS, items(item(A, "cat", 7), item(B, "dog", 7)), worth=1),
    Trick("confidence NaN", PETS, items(item(A, "cat", "NaN"), DOG)),
    Trick("no confidence", PETS,
          say(f"[{{'Position': {list(A)}, 'Label': 'cat'}}, {{'Position': {list(B)}, 'Label': 'dog'}}]"), worth=2),
    Trick("a grid of every class", PETS,
          items(*(item((x, y, x + 200, y + 200), n) for x in (0, 400, 800) for y in (0, 400, 800)
                  for n in ("bird", "cat", "dog")))),
    Trick("5000 boxes", PETS, items(*[CAT] * 5000), worth=1),
    Trick("a box where nothing is", NONE, items(CAT), worth=1),
    Trick("boxes beside No Objects", PETS, say(f"[{CAT}, {DOG}, 'No Objects']"), worth=1),
    Trick("only in the reasoning", PETS, say("two", thought=f"[{CAT}, {DOG}]"), worth=1),
    Trick("answer tag only inside the reasoning", PETS, f"<think><answer>[{CAT}, {DOG}]</answer></think>", worth=0),
    Trick("right block, then a wrong one", PETS, items(CAT, DOG) + "<answer>[]</answer>"),
    Trick("wrong block, then the right one", PETS, say("[]") + f"<answer>[{CAT}, {DOG}]</answer>", worth=2),
    Trick("a class as code", PETS, say(f"[{CAT}, {{'Position': {list(B)}, 'Label': str('dog'), 'Confidence': 1}}]")),
    Trick("nested lists", PETS, say("[" * 9000 + "]" * 9000)),
]  # fmt: skip

BOTH = (1.0, 1.0, 1.0)
HALF = (0.5, 0.5, 1.0)

ROWS = [
    Row("as asked", PETS, items(CAT, DOG), BOTH),
    Row("in another order", PETS, items(DOG, CAT), BOTH),
    Row("as JSON", PETS, items(CAT, DOG).replace("'", '"'), BOTH),
    Row("nothing there", NONE, say("No Objects"), BOTH),
    Row("nothing there, an empty list", NONE, say("[]"), BOTH, "written otherwise"),
    Row("two of one class", CATS, items(CAT, item(B, "cat")), BOTH),
    Row("one missing", PETS, items(DOG), HALF),
    Row("labels in capitals", PETS, items(item(A, "Cat"), item(B, "DOG")), BOTH),
    Row("labels with an article", PETS, items(item(A, "a cat"), item(B, "the dog.")), BOTH),
    Row("bbox_2d, label and score", PETS,
        say('[{"bbox_2d": [100, 100, 400, 400], "label": "cat", "score": 1}, '
            '{"bbox_2d": [500, 500, 900, 900], "label": "dog", "score": 1}]'), BOTH, "other keys"),
    Row("bbox_2d and label", PETS,
        say('```json\n[\n\t{"bbox_2d": [100, 100, 400, 400], "label": "cat"},\n'
            '\t{"bbox_2d": [500, 500, 900, 900], "label": "dog"}\n]\n```'), (1, 0, 1), "no confidence"),
    Row("category for label", PETS, items(CAT, DOG).replace("Label", "category"), BOTH, "other keys"),
    Row("Qwen2-VL's tokens", PETS,
        say("<|object_ref_start|>cat<|object_ref_end|><|box_start|>(100,100),(400,400)<|box_end|>"
            "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(500,500),(900,900)<|box_end|>"),
        (1, 0, 1), "as text"),
    Row("InternVL's tags", PETS,
        say("<ref>cat</ref><box>[[100, 100, 400, 400]]</box><ref>dog</ref><box>[[500, 500, 900, 900]]</box>"),
        (1, 0, 1), "as text"),
    Row("one of another class is dropped", PETS, items(CAT, DOG, item((0, 0, 50, 50), "fish")), BOTH, "another label"),
    Row("one broken item", PETS, items(CAT, "{'Position': [1, 2], 'Label': 'dog', 'Confidence': 1}"), HALF, "item 2"),
    Row("cut off", PETS, f"<think>x</think><answer>[{CAT}, {DOG}, {{'Position': [5", (1, 1, 0), "truncated"),
    Row("a fence", PETS, say(f"```json\n[{CAT}, {DOG}]\n```"), BOTH, "fence"),
    Row("one object without a list", {**PETS, "boxes": PETS["boxes"][:1], "labels": ["cat"]}, say(CAT), BOTH, "single"),
    Row("a label that is a number", {**PETS, "labels": ["7", "7"], "categories": ["7"]},
        items(item(A, 7), item(B, 7)), BOTH),
]  # fmt: skip
