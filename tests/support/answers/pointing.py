"""Answers to "point to it"."""

from __future__ import annotations

from support.answers.kinds import Row, Trick, say
from visual_rft.tasks import Pointing
from visual_rft.vision.coordinates import CoordinateSpace

TASK = Pointing
NAMES = ("hit", "format")
PLACE = {"box": [20, 30, 60, 70], "image_size": [100, 100]}
MASK = {"segmentation": [[20, 30, 60, 30, 60, 40, 30, 40, 30, 70, 20, 70]], "image_size": [100, 100]}
"""An L: its box is [20, 30, 60, 70], and the middle of that is not on it."""
TINY = {"box": [98, 0, 100, 2], "image_size": [100, 100]}
RIGHT = "(400,500)"

TRICKS = [
    Trick("empty text", PLACE, "", worth=0),
    Trick("point without tags", PLACE, RIGHT, worth=0),
    Trick("empty answer", PLACE, say(""), worth=1),
    Trick("words", PLACE, say("the left one"), worth=1),
    Trick("No Objects", PLACE, say("No Objects"), worth=1),
    Trick("the form of the prompt", PLACE, say("(x,y)"), worth=1),
    Trick("the prompt and nothing else", PLACE,
          Pointing().prompt({"expression": "it"}, CoordinateSpace.RELATIVE_1000), worth=0),
    Trick("the middle of the image", TINY, say("(500,500)"), worth=1),
    Trick("just beside it", PLACE, say("(199,500)"), worth=1),
    Trick("in the box, not in the mask", MASK, say("(500,600)"), worth=1),
    Trick("the middle of the mask's box", MASK, say(RIGHT), worth=1),
    Trick("y before x", {"box": [60, 10, 90, 30], "image_size": [100, 100]}, say("(200,750)"), worth=1),
    Trick("mirrored", PLACE, say("(900,500)"), worth=1),
    Trick("in pixels", PLACE, say("(40,50)"), worth=1),
    Trick("as shares of 1", PLACE, say("(0.4,0.5)"), worth=1),
    Trick("two points", PLACE, say("(400,500), (100,100)"), worth=1),
    Trick("two points, the right one last", PLACE, say("(100,100), (400,500)"), worth=1),
    Trick("two points, or", PLACE, say("(100,100) or (400,500)"), worth=1),
    Trick("the same point twice", PLACE, say("(400,500), (400,500)"), worth=1),
    Trick("a grid of points", PLACE,
          say(", ".join(f"({x},{y})" for x in range(0, 1000, 100) for y in range(0, 1000, 100))), worth=1),
    Trick("a grid as a list", PLACE, say(str([[x, y] for x in range(0, 1000, 100) for y in (100, 500)])), worth=1),
    Trick("5000 points", PLACE, say(", ".join([RIGHT] * 5000)), worth=1),
    Trick("900 points", PLACE, say(", ".join([RIGHT] * 900)), worth=1),
    Trick("two objects", PLACE, say('[{"point_2d": [400, 500]}, {"point_2d": [1, 1]}]'), worth=1),
    Trick("two keys of one object", PLACE, say('{"point_2d": [400, 500], "point": [1, 1]}'), worth=1),
    Trick("two corners of a box", PLACE, say("(200,300),(600,700)"), worth=1),
    Trick("the whole image as a box", TINY, say("[0, 0, 1000, 1000]"), worth=1),
    Trick("three numbers", PLACE, say("[400, 500, 1]"), worth=1),
    Trick("one number", PLACE, say("400"), worth=1),
    Trick("outside the image", PLACE, say("(1200,500)"), worth=1),
    Trick("negative", PLACE, say("(-400,500)"), worth=1),
    Trick("NaN", PLACE, say("(NaN,NaN)"), worth=1),
    Trick("NaN in a list", PLACE, say("[NaN, NaN]"), worth=1),
    Trick("Infinity in a list", PLACE, say("[Infinity, 500]"), worth=1),
    Trick("numbers of 400 digits", PLACE, say(f"({'9' * 400},500)"), worth=1),
    Trick("numbers as text", PLACE, say("['400', '500']"), worth=1),
    Trick("true and false", TINY, say("[true, false]"), worth=1),
    Trick("not there", PLACE, say("not (400,500)"), worth=1),
    Trick("a point and a doubt", PLACE, say("maybe (400,500)"), worth=1),
    Trick("a point beside No Objects", PLACE, say("No Objects (400,500)"), worth=1),
    Trick("a point beside other numbers", PLACE, say("(400,500) of 640, 480"), worth=1),
    Trick("only in the reasoning", PLACE, say("that one", thought=RIGHT), worth=1),
    Trick("answer tag only inside the reasoning", PLACE, f"<think><answer>{RIGHT}</answer></think>", worth=0),
    Trick("reasoning never closed", PLACE, f"<think>it is <answer>{RIGHT}</answer>", worth=0),
    Trick("right block, then a wrong one", PLACE, say(RIGHT) + "<answer>(1,1)</answer>", worth=0),
    Trick("wrong block, then the right one", PLACE, say("(1,1)") + f"<answer>{RIGHT}</answer>", worth=1),
    Trick("answer never closed", PLACE, f"<think>a</think><answer>{RIGHT}", worth=0),
    Trick("arithmetic", PLACE, say("[4*100, 500]"), worth=1),
    Trick("import", PLACE, say("__import__('os').system('true')"), worth=1),
    Trick("nested lists", PLACE, say("[" * 9000 + "]" * 9000), worth=1),
    Trick("opened marks", PLACE, say("<point>" * 2500), worth=1),
]  # fmt: skip

ROWS = [
    Row("as asked", PLACE, say(RIGHT), (1, 1)),
    Row("as asked, with a space", PLACE, say("(400, 500)"), (1, 1)),
    Row("on the edge of the box", PLACE, say("(200,300)"), (1, 1)),
    Row("on the mask", MASK, say("(250,600)"), (1, 1)),
    Row("beside it", PLACE, say("(700,500)"), (0, 1)),
    Row("with line breaks", PLACE, say("\n(400,500)\n"), (1, 1)),
    Row("with more spaces", PLACE, say("( 400 , 500 )"), (1, 1), "other spaces"),
    Row("with parts", PLACE, say("(400.5,500.0)"), (1, 1)),
    Row("a list", PLACE, say("[400, 500]"), (1, 1), "as a list"),
    Row("a list in a list", PLACE, say("[[400, 500]]"), (1, 1), "as a list"),
    Row("without brackets", PLACE, say("400, 500"), (1, 1), "as a list"),
    Row("x and y", PLACE, say('{"x": 400, "y": 500}'), (1, 1), "as a list"),
    Row("point_2d", PLACE, say('[{"point_2d": [400, 500], "label": "it"}]'), (1, 1), "as a list"),
    Row("point_2d in a fence", PLACE, say('```json\n[{"point_2d": [400, 500]}]\n```'), (1, 1), "fence"),
    Row("points", PLACE, say('{"points": [[400, 500]]}'), (1, 1), "as a list"),
    Row("a coordinate", PLACE, say('{"action": "click", "coordinate": [400, 500]}'), (1, 1), "as a list"),
    Row("point marks", PLACE, say("<point>[[400, 500]]</point>"), (1, 1), "point marks"),
    Row("point marks with brackets", PLACE, say("<point>(400,500)</point>"), (1, 1), "point marks"),
    Row("box marks of Qwen", PLACE, say("<|box_start|>(400,500)<|box_end|>"), (1, 1), "point marks"),
    Row("a call", PLACE, say("click(400,500)"), (1, 1), "text around"),
    Row("a sentence", PLACE, say("It is at (400,500)."), (1, 1), "text around"),
    Row("a sentence with a number", PLACE, say("Number 2 of 3: (400,500)"), (1, 1), "text around"),
    Row("a box instead", PLACE, say("[200, 300, 600, 700]"), (1, 1), "centre of a box"),
    Row("a box under its key", PLACE, say('{"bbox_2d": [200, 300, 600, 700]}'), (1, 1), "centre of a box"),
    Row("full-width", PLACE, say("\uff08400\uff0c500\uff09"), (1, 1), "full-width"),
    Row("0.5 % outside the image", TINY, say("(1005,10)"), (1, 1), "edge"),
    Row("another point in the reasoning", PLACE, f"<think>not (1,1)</think><answer>{RIGHT}</answer>", (1, 1)),
    Row("tags in capitals", PLACE, f"<Think>x</Think><Answer>{RIGHT}</Answer>", (1, 0)),
    Row("the prompt opened the reasoning", PLACE, f"the left one</think><answer>{RIGHT}</answer>", (1, 0)),
]  # fmt: skip
