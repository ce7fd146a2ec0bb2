"""Right answers in an unusual form that must not be lost: one named row each, scored as a careful person would.

Every row says what each part is worth, worked out by hand, so that being lenient never turns into being generous: a
dropped box still costs, and a form that was not asked for still fails ``strict_format``.
"""

from __future__ import annotations

import pytest
from support.answers import NEW_TASKS, Row, say

from visual_rft.tasks import Classification, Detection, Grounding

ONE = {"boxes": [[10, 10, 40, 40]], "image_size": [100, 100], "category": "cat"}
TWO = {"boxes": [[10, 10, 40, 40], [50, 50, 90, 90]], "image_size": [100, 100], "category": "cat"}
NONE = {"boxes": [], "image_size": [100, 100], "category": "cat"}
EDGE = {"boxes": [[0, 0, 50, 100]], "image_size": [100, 100], "category": "cat"}
ACROSS = {"boxes": [[0, 2, 100, 22]], "image_size": [100, 100], "category": "cat"}
TOY = {**ONE, "category": "dog's toy"}
FLOWER = {"label": "red poppy", "synonyms": ["Papaver rhoeas", "corn rose"], "parents": ["poppy"]}
PLACE = {"box": [20, 30, 60, 70], "image_size": [100, 100]}
AT_EDGE = {"box": [0, 30, 60, 100], "image_size": [100, 100]}
A = "{'Position': [100, 100, 400, 400], 'Confidence': 0.9}"
B = "{'Position': [500, 500, 900, 900], 'Confidence': 0.5}"
JSON_A = '{"Position": [100, 100, 400, 400], "Confidence": 0.9}'
RIGHT = "(200,300),(600,700)"


def wide(text: str, signs: str) -> str:
    """``text`` with these signs in full width."""
    return "".join(chr(ord(sign) + 0xFEE0) if sign in signs else sign for sign in text)


def curly(text: str) -> str:
    """``text`` with curly quotes."""
    for sign, (left, right) in {'"': "\u201c\u201d", "'": "\u2018\u2019"}.items():
        parts = text.split(sign)
        text = parts[0] + "".join((left if n % 2 == 0 else right) + part for n, part in enumerate(parts[1:]))
    return text


FOUND = (1.0, 0.9, 1.0, 1.0)
"""The one box of ONE, with confidence 0.9: iou, confidence, iou_balanced, format."""
FIRST_OF_TWO = (1.0, 0.9, 0.5, 1.0)
SURE_OF_NONE = (1.0, 0.0, 1.0, 1.0)
"""All boxes, none with a confidence."""
NOTHING = (1.0, 1.0, 1.0, 1.0)

DETECTION = [
    Row("as asked", ONE, say(f"[{A}]"), FOUND),
    Row("as JSON", ONE, say(f"[{JSON_A}]"), FOUND),
    Row("line breaks inside the answer", ONE, say(f"\n[\n  {A}\n]\n"), FOUND),
    Row("line breaks inside a box", ONE, say(f"[{A}]".replace(", ", ",\n ")), FOUND),
    Row("line break between the blocks", ONE, f"<think>one</think>\n\n<answer>[{A}]</answer>\n", FOUND),
    Row("tabs and extra spaces", ONE, say(f"[\t{A} ]".replace(":", " :\t")), FOUND),
    Row("no spaces", ONE, say(f"[{A}]".replace(" ", "")), FOUND),
    Row("```json fence", ONE, say(f"```json\n[{JSON_A}]\n```"), FOUND, "fence"),
    Row("```json fence around Python", ONE, say(f"```json\n[{A}]\n```"), FOUND, "fence"),
    Row("fence in one line", ONE, say(f"```json [{JSON_A}] ```"), FOUND, "fence"),
    Row("fence without a language", ONE, say(f"```\n[{A}]\n```"), FOUND, "fence"),
    Row("fence with python", ONE, say(f"```python\n[{A}]\n```"), FOUND, "fence"),
    Row("fence never closed", ONE, say(f"```json\n[{A}]"), FOUND, "fence"),
    Row("fence around the answer tag", ONE, f"<think>one</think>\n```\n<answer>[{A}]</answer>\n```", (1, 0.9, 1, 0)),
    Row("single object", ONE, say(A), FOUND, "single object"),
    Row("objects without a list", TWO, say(f"{A}, {B}"), (1, 0.7, 1, 1), "without a list"),
    Row("objects one per line", TWO, say(f"{A}\n{B}"), (1, 0.7, 1, 1), "salvaged"),
    Row("nested list", ONE, say(f"[[{A}]]"), FOUND, "nested"),
    Row("nested list of two", TWO, say(f"[[{A}, {B}]]"), (1, 0.7, 1, 1), "nested"),
    Row("nested position", ONE, say("[{'Position': [[100, 100, 400, 400]], 'Confidence': 0.9}]"), FOUND, "nested"),
    Row("position as a tuple", ONE, say("[{'Position': (100, 100, 400, 400), 'Confidence': 0.9}]"), FOUND),
    Row("key bbox", ONE, say("[{'bbox': [100, 100, 400, 400], 'Confidence': 0.9}]"), FOUND, "other keys"),
    Row("key bbox_2d", ONE, say('[{"bbox_2d": [100, 100, 400, 400], "confidence": 0.9}]'), FOUND, "other keys"),
    Row("keys bbox_2d and score", ONE, say("[{'bbox_2d': [100, 100, 400, 400], 'score': 0.9}]"), FOUND, "other keys"),
    Row("key box", ONE, say("[{'box': [100, 100, 400, 400], 'score': 0.9}]"), FOUND, "other keys"),
    Row("key position", ONE, say("[{'position': [100, 100, 400, 400], 'confidence': 0.9}]"), FOUND, "other keys"),
    Row("keys in capitals", ONE, say("[{'POSITION': [100, 100, 400, 400], 'CONFIDENCE': 0.9}]"), FOUND, "other keys"),
    Row("keys in another order", ONE, say("[{'Confidence': 0.9, 'Position': [100, 100, 400, 400]}]"), FOUND),
    Row("bare keys", ONE, say("[{Position: [100, 100, 400, 400], Confidence: 0.9}]"), FOUND, "salvaged"),
    Row("right label on the item", ONE, say("[{'label': 'Cat', 'bbox_2d': [100, 100, 400, 400], 'score': 0.9}]"), FOUND,
        "other keys"),
    Row("unknown extra key", ONE, say("[{'Position': [100, 100, 400, 400], 'Confidence': 0.9, 'id': 7}]"), FOUND,
        "other keys"),
    Row("floats", ONE, say("[{'Position': [100.0, 100.0, 400.0, 400.0], 'Confidence': 0.9}]"), FOUND),
    Row("one float, keys in small letters", ONE, say("[{'position': [100.0, 100, 400, 400], 'confidence': 1}]"),
        (1, 1, 1, 1), "other keys"),
    Row("exponents", ONE, say("[{'Position': [1e2, 1e2, 4e2, 4e2], 'Confidence': 9e-1}]"), FOUND),
    Row("confidence as an integer", ONE, say("[{'Position': [100, 100, 400, 400], 'Confidence': 1}]"), (1, 1, 1, 1)),
    Row("apostrophe in a label in double quotes", TOY,
        say("[{'label': \"dog's toy\", 'Position': [100, 100, 400, 400], 'Confidence': 0.9}]"), FOUND, "other keys"),
    Row("apostrophe in a label in single quotes", TOY,
        say("[{'label': 'dog's toy', 'Position': [100, 100, 400, 400], 'Confidence': 0.9}]"), FOUND, "salvaged"),
    Row("escaped apostrophe in a label", TOY,
        say("[{'label': 'dog\\'s toy', 'Position': [100, 100, 400, 400], 'Confidence': 0.9}]"), FOUND, "other keys"),
    Row("apostrophe in a label, JSON", TOY,
        say('[{"label": "dog\'s toy", "Position": [100, 100, 400, 400], "Confidence": 0.9}]'), FOUND, "other keys"),
    Row("trailing comma in the list", ONE, say(f"[{A},]"), FOUND),
    Row("trailing comma in an object", ONE, say("[{'Position': [100, 100, 400, 400,], 'Confidence': 0.9,}]"), FOUND),
    Row("trailing comma, JSON", ONE, say(f"[{JSON_A},]"), FOUND),
    Row("list never closed", ONE, say(f"[{A}"), FOUND, "salvaged"),
    Row("cut off in the second box", TWO, f"<think>two</think><answer>[{A}, {{'Position': [500, 50", (1, 0.9, 0.5, 0),
        "truncated"),
    Row("cut off between two boxes", TWO, f"<think>two</think><answer>[{A}, ", (1, 0.9, 0.5, 0), "truncated"),
    Row("cut off before the closing tag", TWO, f"<think>two</think><answer>[{A}, {B}]", (1, 0.7, 1, 0), "truncated"),
    Row("cut off in the closing tag", ONE, f"<think>one</think><answer>[{A}]</answ", (1, 0.9, 1, 0), "truncated"),
    Row("malformed position beside a good box", TWO, say(f"[{A}, {{'Position': [500, 500], 'Confidence': 1}}]"),
        FIRST_OF_TWO, "item 2: position is not four finite numbers"),
    Row("a number for a position beside a good box", TWO, say(f"[{A}, {{'Position': 7}}]"), FIRST_OF_TWO,
        "item 2: position is not four finite numbers"),
    Row("malformed item before a good box", TWO, say(f"['?', {A}]"), FIRST_OF_TWO, "item 1: not an object"),
    Row("inverted box beside a good one", TWO, say(f"[{A}, {{'Position': [900, 900, 500, 500], 'Confidence': 1}}]"),
        FIRST_OF_TWO, "item 2: x2 <= x1"),
    Row("unfinished object between two good ones", TWO, say(f"[{A}, {{'Position': [1, , {B}]"), (1, 0.7, 1, 1),
        "salvaged"),
    Row("wrong label beside the asked one", ONE,
        say(f"[{A}, {{'label': 'dog', 'Position': [500, 500, 900, 900], 'Confidence': 1}}]"), FOUND,
        "item 2: another label"),
    Row("words before the list", ONE, say(f"Here is the list: [{A}]"), FOUND, "salvaged"),
    Row("words after the list", ONE, say(f"[{A}] That is all."), FOUND, "salvaged"),
    Row("words around the list", TWO, say(f"I found two:\n[{A}, {B}]\nThese are all."), (1, 0.7, 1, 1), "salvaged"),
    Row("words before the fence", ONE, say(f"Answer:\n```json\n[{JSON_A}]\n```"), FOUND, "salvaged"),
    Row("list inside an object", ONE, say(f'{{"objects": [{JSON_A}]}}'), FOUND, "list inside an object"),
    Row("list inside an object with a count", ONE, say(f'{{"count": 1, "boxes": [{JSON_A}]}}'), FOUND,
        "list inside an object"),
    Row("tags in capitals", ONE, f"<THINK>one</THINK><ANSWER>[{A}]</ANSWER>", (1, 0.9, 1, 0)),
    Row("no reasoning", ONE, f"<answer>[{A}]</answer>", (1, 0.9, 1, 0)),
    Row("the prompt opened the reasoning", ONE, f"one of them</think><answer>[{A}]</answer>", (1, 0.9, 1, 0)),
    Row("a first try in the reasoning the prompt opened", ONE,
        f"<answer>[{B}]</answer> no</think><answer>[{A}]</answer>", (1, 0.9, 1, 0)),
    Row("corrected itself", ONE, say(f"[{B}]") + f" or rather <answer>[{A}]</answer>", (1, 0.9, 1, 0)),
    Row("corrected an empty list", ONE, f"<answer>[]</answer> wait <answer>[{A}]</answer>", (1, 0.9, 1, 0)),
    Row("an answer echoed in the reasoning", ONE, f"<think><answer>[]</answer></think><answer>[{A}]</answer>",
        (1, 0.9, 1, 0)),
    Row("words after the answer", ONE, say(f"[{A}]") + " Done.", (1, 0.9, 1, 0)),
    Row("0.5 % outside the image", EDGE, say("[{'Position': [-5, -5, 500, 1005], 'Confidence': 0.9}]"), FOUND, "edge"),
    Row("0.5 and 0.8 % outside the image", ACROSS, say("[{'Position': [-5, 20, 1008, 220], 'Confidence': 0.9}]"), FOUND,
        "edge"),
    # As the families were taught to write boxes, before fine-tuning: no confidence, so its reward pays nothing.
    Row("Qwen2.5-VL and Qwen3-VL", ONE, say('```json\n[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]\n```'),
        SURE_OF_NONE, "no confidence"),
    Row("Qwen2.5-VL, two boxes", TWO,
        say('```json\n[\n\t{"bbox_2d": [100, 100, 400, 400], "label": "cat"},\n\t{"bbox_2d": [500, 500, 900, 900], '
            '"label": "cat"}\n]\n```'), SURE_OF_NONE, "no confidence"),
    Row("one box of two without confidence", TWO, say(f"[{A}, {{'Position': [500, 500, 900, 900]}}]"),
        (1, 0.45, 1, 1), "no confidence"),
    Row("confidence null", ONE, say('[{"Position": [100, 100, 400, 400], "Confidence": null}]'), SURE_OF_NONE,
        "no confidence"),
    Row("Qwen2-VL", ONE, say("<|box_start|>(100,100),(400,400)<|box_end|>"), SURE_OF_NONE, "as text"),
    Row("Qwen2-VL, with the name", ONE,
        say("<|object_ref_start|>the cat<|object_ref_end|><|box_start|>(100,100),(400,400)<|box_end|>"), SURE_OF_NONE,
        "as text"),
    Row("Qwen2-VL, two boxes", TWO,
        say("<|box_start|>(100,100),(400,400)<|box_end|><|box_start|>(500,500),(900,900)<|box_end|>"), SURE_OF_NONE,
        "as text"),
    Row("Qwen2-VL, another name beside", ONE,
        say("<|object_ref_start|>cat<|object_ref_end|><|box_start|>(100,100),(400,400)<|box_end|>"
            "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(500,500),(900,900)<|box_end|>"), SURE_OF_NONE,
        "item 2: another label"),
    Row("InternVL", ONE, say("<ref>cat</ref><box>[[100, 100, 400, 400]]</box>"), SURE_OF_NONE, "as text"),
    Row("InternVL, two boxes", TWO, say("<ref>cat</ref><box>[[100, 100, 400, 400], [500, 500, 900, 900]]</box>"),
        SURE_OF_NONE, "as text"),
    Row("numbers between spaces in a box tag", ONE, say("<box>100 100 400 400</box>"), SURE_OF_NONE, "as text"),
    Row("corners in prose", ONE, say("There is one at (100,100),(400,400)."), SURE_OF_NONE, "as text"),
    Row("a bare list of four numbers", ONE, say("[100, 100, 400, 400]"), SURE_OF_NONE, "as text"),
    Row("lists of four numbers", TWO, say("[[100, 100, 400, 400], [500, 500, 900, 900]]"), SURE_OF_NONE, "as text"),
    Row("a key per side", ONE, say('[{"x1": 100, "y1": 100, "x2": 400, "y2": 400, "confidence": 0.9}]'), FOUND,
        "other keys"),
    Row("a key per side, alone", ONE, say('{"x1": 100, "y1": 100, "x2": 400, "y2": 400}'), SURE_OF_NONE, "other keys"),
    Row("a key per side, as in VOC", ONE, say('[{"xmin": 100, "ymin": 100, "xmax": 400, "ymax": 400}]'), SURE_OF_NONE,
        "other keys"),
    Row("a key per side under the position", ONE,
        say("[{'Position': {'x1': 100, 'y1': 100, 'x2': 400, 'y2': 400}, 'Confidence': 0.9}]"), FOUND, "corner points"),
    Row("two corner points", ONE, say("[{'Position': [[100, 100], [400, 400]], 'Confidence': 0.9}]"), FOUND,
        "corner points"),
    Row("two corner points alone", ONE, say("[[100, 100], [400, 400]]"), SURE_OF_NONE, "corner points"),
    Row("full-width digits", ONE, say(wide(f"[{A}]", "0123456789")), FOUND, "full-width"),
    Row("full-width commas and brackets", ONE, say(wide(f"[{A}]", "[],:{}")), FOUND, "full-width"),
    Row("Chinese brackets and commas", ONE, say(f"\u3010{A}\u3011".replace(", ", "\u3001")), FOUND, "full-width"),
    Row("full-width quotes", ONE, say(wide(f"[{A}]", "'")), FOUND, "full-width"),
    Row("curly double quotes", ONE, say(curly(f"[{JSON_A}]")), FOUND, "curly"),
    Row("curly single quotes", ONE, say(curly(f"[{A}]")), FOUND, "curly"),
    Row("full-width, cut off", TWO, "<think>two</think><answer>" + wide(f"[{A}, {{'Pos", ","), (1, 0.9, 0.5, 0),
        "truncated"),
    Row("signs", ONE, say("[{'Position': [+100, +100, +400, +400], 'Confidence': +0.9}]"), FOUND),
    Row("three quarters of it", ONE, say("[{'Position': [100, 100, 400, 325], 'Confidence': 0.9}]"),
        (0.75, 0.9, 0.75, 1)),
    Row("nothing there", NONE, say("No Objects"), NOTHING),
    Row("nothing there, in spaces", NONE, say("\n  No Objects \n"), NOTHING),
    Row("nothing there, small letters", NONE, say("no objects"), NOTHING, "otherwise"),
    Row("nothing there, full stop", NONE, say("No objects."), NOTHING, "otherwise"),
    Row("nothing there, quoted", NONE, say('"No Objects"'), NOTHING, "otherwise"),
    Row("nothing there, quoted, small letters, full stop", NONE, say("'no objects.'"), NOTHING, "otherwise"),
    Row("nothing there, in a list", NONE, say("['No Objects']"), NOTHING, "otherwise"),
    Row("nothing there, in bare brackets", NONE, say("[No Objects]"), NOTHING, "otherwise"),
    Row("nothing there, in a fence", NONE, say("```\nNo Objects\n```"), NOTHING, "otherwise"),
    Row("nothing there, in a fence with a language", NONE, say("```json\nNo Objects\n```"), NOTHING, "otherwise"),
    Row("nothing there, underscore", NONE, say("No_Objects"), NOTHING, "otherwise"),
    Row("nothing there, singular", NONE, say("No object"), NOTHING, "otherwise"),
    Row("nothing there, a sentence", NONE, say("There are no objects."), NOTHING, "otherwise"),
    Row("nothing there, none", NONE, say("None"), NOTHING, "otherwise"),
    Row("nothing there, empty list", NONE, say("[]"), NOTHING, "otherwise"),
    Row("nothing there, fenced empty list", NONE, say("```json\n[]\n```"), NOTHING, "otherwise"),
    Row("nothing there, empty list in an object", NONE, say('{"objects": []}'), NOTHING, "list inside an object"),
    Row("nothing there, never closed", NONE, "<think>none</think><answer>No Objects", (1, 1, 1, 0), "truncated"),
]  # fmt: skip

CLASSIFICATION = [
    Row("as asked", FLOWER, say("red poppy"), (1, 1)),
    Row("line breaks", FLOWER, say("\nred poppy\n"), (1, 1)),
    Row("other case", FLOWER, say("Red Poppy"), (1, 1)),
    Row("capitals", FLOWER, say("RED POPPY"), (1, 1)),
    Row("underscore", FLOWER, say("red_poppy"), (1, 1)),
    Row("hyphen", FLOWER, say("red-poppy"), (1, 1)),
    Row("two spaces", FLOWER, say("red  poppy"), (1, 1)),
    Row("line break for the space", FLOWER, say("red\npoppy"), (1, 1)),
    Row("article", FLOWER, say("a red poppy"), (1, 1)),
    Row("article the, capital", FLOWER, say("The red poppy"), (1, 1)),
    Row("article an", {"label": "orchid"}, say("An orchid"), (1, 1)),
    Row("final full stop", FLOWER, say("Red poppy."), (1, 1)),
    Row("exclamation mark", FLOWER, say("red poppy!"), (1, 1)),
    Row("bold", FLOWER, say("**red poppy**"), (1, 1)),
    Row("double quotes", FLOWER, say('"red poppy"'), (1, 1), "quotes"),
    Row("single quotes", FLOWER, say("'red poppy'"), (1, 1), "quotes"),
    Row("backticks", FLOWER, say("`red poppy`"), (1, 1), "quotes"),
    Row("round brackets", FLOWER, say("(red poppy)"), (1, 1), "quotes"),
    Row("fence", FLOWER, say("```\nred poppy\n```"), (1, 1), "fence"),
    Row("fence with a language", FLOWER, say("```text\nred poppy\n```"), (1, 1), "fence"),
    Row("synonym", FLOWER, say("Papaver rhoeas"), (1, 1)),
    Row("second synonym, other case", FLOWER, say("Corn Rose"), (1, 1)),
    Row("JSON label", FLOWER, say('{"label": "red poppy"}'), (1, 1), "list"),
    Row("JSON class, single quotes", FLOWER, say("{'class': 'Red poppy'}"), (1, 1), "list"),
    Row("JSON with a confidence", FLOWER, say('{"label": "red poppy", "confidence": 0.9}'), (1, 1), "list"),
    Row("JSON under another key", FLOWER, say('{"answer": "red poppy"}'), (1, 1), "list"),
    Row("fenced JSON", FLOWER, say('```json\n{"label": "red poppy"}\n```'), (1, 1), "fence"),
    Row("list of one", FLOWER, say('["red poppy"]'), (1, 1), "list"),
    Row("list of one in bare brackets", FLOWER, say("[red poppy]"), (1, 1), "list"),
    Row("full-width letters", FLOWER, say("\uff32\uff45\uff44 poppy"), (1, 1)),
    Row("accent as two characters", {"label": "caf\u00e9"}, say("cafe\u0301"), (1, 1)),
    Row("apostrophe left out", {"label": "bird's nest"}, say("birds nest"), (1, 1)),
    Row("typographic apostrophe", {"label": "bird's nest"}, say("bird\u2019s nest"), (1, 1)),
    Row("quoted name with an apostrophe", {"label": "bird's nest"}, say("'bird's nest'"), (1, 1), "quotes"),
    Row("label with a leading apostrophe", {"label": "'67 Mustang"}, say("'67 Mustang"), (1, 1), "quotes"),
    Row("label with punctuation", {"label": "Boeing 737-800"}, say("boeing 737 800"), (1, 1)),
    Row("label with a plus", {"label": "HER2+"}, say("HER2+"), (1, 1)),
    Row("label with a plus, other case, a full stop", {"label": "HER2+"}, say("The her2+."), (1, 1)),
    Row("label with a plus, a space before it", {"label": "HER2+"}, say("HER2 +"), (1, 1)),
    Row("label with a minus, a typographic one", {"label": "HER2-"}, say("HER2\u2212"), (1, 1)),
    Row("label with a minus, a full-width one", {"label": "HER2-"}, say("\uff28\uff25\uff32\uff12\uff0d"), (1, 1)),
    Row("label that is a plus", {"label": "+"}, say("+"), (1, 1)),
    Row("label that is a minus, quoted", {"label": "-"}, say("'-'"), (1, 1), "quotes"),
    Row("label C++", {"label": "C++"}, say("c++"), (1, 1)),
    Row("label with a comparison", {"label": "< 5 cm"}, say("<5 cm"), (1, 1)),
    Row("a stroke of a list before the name", FLOWER, say("- red poppy"), (1, 1)),
    Row("a stroke after the name", FLOWER, say("red poppy -"), (1, 1)),
    Row("a heading", FLOWER, say("# red poppy"), (1, 1)),
    Row("hyphen in the label, none in the answer", {"label": "red-poppy"}, say("red poppy"), (1, 1)),
    Row("label that is a number", {"label": "7"}, say("7"), (1, 1)),
    Row("label that is a number, JSON", {"label": "7"}, say('{"label": 7}'), (1, 1), "list"),
    Row("tags in capitals", FLOWER, "<THINK>x</THINK><ANSWER>red poppy</ANSWER>", (1, 0)),
    Row("the prompt opened the reasoning", FLOWER, "four petals</think><answer>red poppy</answer>", (1, 0)),
    Row("another name in the reasoning", FLOWER,
        "<think>tulip? no</think><answer>red poppy</answer>", (1, 1)),
]  # fmt: skip

GROUNDING = [
    Row("as asked", PLACE, say(RIGHT), (1, 1)),
    Row("a key per side", PLACE, say('{"x1": 200, "y1": 300, "x2": 600, "y2": 700}'), (1, 1), "as a list"),
    Row("a key per side, in a fenced list", PLACE, say('```json\n[{"x1": 200, "y1": 300, "x2": 600, "y2": 700}]\n```'),
        (1, 1), "as a list"),
    Row("two corner points", PLACE, say("[[200, 300], [600, 700]]"), (1, 1), "as a list"),
    Row("two corner points without a list", PLACE, say("[200,300],[600,700]"), (1, 1), "as a list"),
    Row("two corner points under a key", PLACE, say('{"bbox": [[200, 300], [600, 700]]}'), (1, 1), "as a list"),
    Row("InternVL", PLACE, say("<ref>it</ref><box>[[200, 300, 600, 700]]</box>"), (1, 1), "text around"),
    Row("InternVL without a name", PLACE, say("<box>[[200, 300, 600, 700]]</box>"), (1, 1), "as a list"),
    Row("numbers between spaces in a box tag", PLACE, say("<box>200 300 600 700</box>"), (1, 1), "as a list"),
    Row("full-width", PLACE, say(wide(RIGHT, "(),0123456789")), (1, 1), "full-width"),
    Row("curly quotes", PLACE, say("{\u201cbbox_2d\u201d: [200, 300, 600, 700]}"), (1, 1), "curly"),
    Row("with spaces", PLACE, say("( 200 , 300 ) , ( 600 , 700 )"), (1, 1)),
    Row("with line breaks", PLACE, say("\n(200,300),\n(600,700)\n"), (1, 1)),
    Row("without the comma between the corners", PLACE, say("(200,300) (600,700)"), (1, 1)),
    Row("floats", PLACE, say("(200.0,300.00),(600.,700.0)"), (1, 1)),
    Row("list", PLACE, say("[200, 300, 600, 700]"), (1, 1), "list"),
    Row("list of floats", PLACE, say("[200.0, 300.0, 600.0, 700.0]"), (1, 1), "list"),
    Row("nested list", PLACE, say("[[200, 300, 600, 700]]"), (1, 1), "list"),
    Row("round brackets around four numbers", PLACE, say("(200, 300, 600, 700)"), (1, 1), "list"),
    Row("four numbers without brackets", PLACE, say("200, 300, 600, 700"), (1, 1), "list"),
    Row("object with bbox_2d", PLACE, say('{"bbox_2d": [200, 300, 600, 700]}'), (1, 1), "list"),
    Row("object with bbox_2d and a label", PLACE, say('[{"bbox_2d": [200, 300, 600, 700], "label": "it"}]'), (1, 1),
        "list"),
    Row("object with Position", PLACE, say("{'Position': [200, 300, 600, 700], 'Confidence': 1}"), (1, 1), "list"),
    Row("object with a nested box", PLACE, say("{'bbox': [[200, 300, 600, 700]]}"), (1, 1), "list"),
    Row("fenced object", PLACE, say('```json\n[\n{"bbox_2d": [200, 300, 600, 700]}\n]\n```'), (1, 1), "fence"),
    Row("fenced corners", PLACE, say(f"```\n{RIGHT}\n```"), (1, 1), "text around"),
    Row("box tokens", PLACE, say(f"<|box_start|>{RIGHT}<|box_end|>"), (1, 1), "box tokens"),
    Row("object and box tokens", PLACE,
        say(f"<|object_ref_start|>the cup<|object_ref_end|><|box_start|>{RIGHT}<|box_end|>"), (1, 1), "text around"),
    Row("box tokens around a list", PLACE, say("<|box_start|>[200, 300, 600, 700]<|box_end|>"), (1, 1), "list"),
    Row("text before the box", PLACE, say(f"The cup is at {RIGHT}"), (1, 1), "text around"),
    Row("text after the box", PLACE, say(f"{RIGHT} is the cup."), (1, 1), "text around"),
    Row("text with a number around the box", PLACE, say(f"Number 2 of 3: {RIGHT}."), (1, 1), "text around"),
    Row("text before a list", PLACE, say("The cup is at [200, 300, 600, 700]."), (1, 1), "text around"),
    Row("text before an object", PLACE, say('It is {"bbox_2d": [200, 300, 600, 700]}'), (1, 1), "salvaged"),
    Row("corners in brackets", PLACE, say(f"[{RIGHT}]"), (1, 1), "text around"),
    Row("0.5 % outside the image", AT_EDGE, say("(-5,300),(600,1005)"), (1, 1), "edge"),
    Row("half of it", PLACE, say("(200,300),(600,500)"), (0.5, 1)),
    Row("another box in the reasoning", PLACE, f"<think>not (0,0),(9,9)</think><answer>{RIGHT}</answer>", (1, 1)),
    Row("tags in capitals", PLACE, f"<Think>x</Think><Answer>{RIGHT}</Answer>", (1, 0)),
    Row("the prompt opened the reasoning", PLACE, f"the left one</think><answer>{RIGHT}</answer>", (1, 0)),
    Row("cut off before the closing tag", PLACE, f"<think>x</think><answer>{RIGHT}", (1, 0), "truncated"),
]  # fmt: skip

NAMES = {
    Detection: ("iou", "confidence", "iou_balanced", "format"),
    Classification: ("accuracy", "format"),
    Grounding: ("iou", "format"),
    **{rows.TASK: rows.NAMES for rows in NEW_TASKS},
}
ROWS = [
    *((Detection, row) for row in DETECTION),
    *((Classification, row) for row in CLASSIFICATION),
    *((Grounding, row) for row in GROUNDING),
    *((rows.TASK, row) for rows in NEW_TASKS for row in rows.ROWS),
]


@pytest.mark.parametrize(("task", "row"), ROWS, ids=[f"{task.name}: {row.name}" for task, row in ROWS])
def test_a_right_answer_is_not_lost(task, row):
    names = NAMES[task]
    score = task(weights=dict.fromkeys([*names, "strict_format"], 1.0)).score(row.completion, row.truth)
    assert score.failure is None
    assert [score.parts[name] for name in names] == pytest.approx(list(row.parts))
    if row.note is None:
        assert score.notes == ()
    else:
        assert any(row.note in note for note in score.notes), score.notes
    assert score.parts["strict_format"] == (score.parts["format"] and row.note is None)


def test_every_row_has_its_own_name():
    names = [(task.name, row.name) for task, row in ROWS]
    assert len(set(names)) == len(names)
