"""Answers to "how many are there?"."""

from __future__ import annotations

from support.answers.kinds import Row, Trick, say
from visual_rft.tasks import Counting
from visual_rft.vision.coordinates import CoordinateSpace

TASK = Counting
NAMES = ("exact", "close", "format")
THREE = {"boxes": [[10, 10, 40, 40], [50, 50, 90, 90], [60, 10, 90, 30]], "image_size": [100, 100]}
NONE = {"boxes": [], "image_size": [100, 100]}


def some(count: int) -> dict[str, object]:
    return {"boxes": [[n, 0, n + 1, 1] for n in range(count)], "image_size": [100, 100]}


TEN = some(10)

TRICKS = [
    Trick("empty text", THREE, "", worth=0),
    Trick("number without tags", THREE, "3", worth=0),
    Trick("empty answer", THREE, say(""), worth=1),
    Trick("the prompt and nothing else", THREE,
          Counting().prompt({"category": "cat"}, CoordinateSpace.RELATIVE_1000), worth=0),
    Trick("one too many", THREE, say("4"), worth=0.5 * 0.75 + 1),
    Trick("one too few", THREE, say("2"), worth=0.5 * 2 / 3 + 1),
    Trick("nothing", THREE, say("0"), worth=1),
    Trick("two numbers, or", THREE, say("3 or 4"), worth=1),
    Trick("two numbers, comma", THREE, say("3, 4"), worth=1),
    Trick("a range", THREE, say("2-4"), worth=1),
    Trick("a range in words", THREE, say("between 2 and 4"), worth=1),
    Trick("every number", THREE, say(" ".join(map(str, range(20)))), worth=1),
    Trick("every number, JSON", THREE, say(str(list(range(20)))), worth=1),
    Trick("at least", THREE, say("at least 3"), worth=1),
    Trick("more than", THREE, say("more than 2")),
    Trick("about", THREE, say("about 3"), worth=1),
    Trick("not", THREE, say("not 3"), worth=1),
    Trick("with a plus", THREE, say("3+"), worth=1),
    Trick("with a tilde", THREE, say("~3"), worth=1),
    Trick("less than", THREE, say("<3"), worth=1),
    Trick("a fraction", THREE, say("3/1"), worth=1),
    Trick("a sum", THREE, say("1+2"), worth=1),
    Trick("a product in words", THREE, say("three times one"), worth=1),
    Trick("a power", THREE, say("3e0"), worth=1),
    Trick("hexadecimal", THREE, say("0x3"), worth=1),
    Trick("negative", THREE, say("-3"), worth=1),
    Trick("a number with a part", THREE, say("3.4"), worth=1),
    Trick("just above", THREE, say("3.0000001"), worth=1),
    Trick("NaN", THREE, say("NaN")),
    Trick("Infinity", THREE, say("Infinity")),
    Trick("a number of 400 digits", THREE, say("9" * 400)),
    Trick("true", some(1), say("true")),
    Trick("true in a list", some(1), say("[true]"), worth=1),
    Trick("many", THREE, say("many")),
    Trick("a dozen", some(12), say("1 dozen"), worth=1),
    Trick("a pair", some(2), say("a pair")),
    Trick("two words for numbers", some(21), say("twenty one")),
    Trick("of two kinds", THREE, say("3 cats and 2 dogs"), worth=1),
    Trick("of two kinds in words", THREE, say("three cats, two dogs")),
    Trick("two keys of one object", THREE, say('{"count": 3, "other": 4}'), worth=1),
    Trick("No Objects when there are three", THREE, say("No Objects")),
    Trick("one when there is none", NONE, say("1"), worth=1),
    Trick("only in the reasoning", THREE, say("some", thought="3"), worth=1),
    Trick("answer tag only inside the reasoning", THREE, "<think><answer>3</answer></think>", worth=0),
    Trick("reasoning never closed", THREE, "<think>so <answer>3</answer>", worth=0),
    Trick("right block, then a wrong one", THREE, say("3") + "<answer>5</answer>"),
    Trick("wrong block, then the right one", THREE, say("5") + "<answer>3</answer>", worth=1.5),
    Trick("answer never closed", TEN, "<think>a</think><answer>10", worth=0),
    Trick("cut within the number", TEN, "<think>a</think><answer>1"),
    Trick("import", THREE, say("__import__('os').getcwd()")),
    Trick("a function", THREE, say("len('abc')")),
    Trick("nested lists", THREE, say("[" * 9000 + "3" + "]" * 9000)),
    Trick("spaces before the number", THREE, say("x" + " " * 19_000 + "3")),
]  # fmt: skip

ROWS = [
    Row("as asked", THREE, say("3"), (1, 1, 1)),
    Row("none", NONE, say("0"), (1, 1, 1)),
    Row("of a truth without boxes", {"count": 10}, say("10"), (1, 1, 1)),
    Row("one off", TEN, say("9"), (0, 0.9, 1)),
    Row("with a full stop", THREE, say("3."), (1, 1, 1), "text around"),
    Row("in words", THREE, say("three"), (1, 1, 1), "in words"),
    Row("in words with a capital", THREE, say("Three."), (1, 1, 1), "in words"),
    Row("a sentence", THREE, say("There are 3 cats."), (1, 1, 1), "text around"),
    Row("a sentence in words", THREE, say("I see three red cats on the left."), (1, 1, 1), "text around"),
    Row("with its name", THREE, say("Answer: 3"), (1, 1, 1), "text around"),
    Row("bold", THREE, say("**3**"), (1, 1, 1), "text around"),
    Row("with the thing", THREE, say("3 cats"), (1, 1, 1), "text around"),
    Row("JSON", THREE, say('{"count": 3}'), (1, 1, 1), "fence or a list"),
    Row("fenced JSON", THREE, say('```json\n{"count": 3}\n```'), (1, 1, 1), "fence or a list"),
    Row("a fence", THREE, say("```\n3\n```"), (1, 1, 1), "fence or a list"),
    Row("a list of one", THREE, say("[3]"), (1, 1, 1), "fence or a list"),
    Row("quotes", THREE, say("'3'"), (1, 1, 1), "quotes"),
    Row("as text in JSON", THREE, say('{"answer": "3"}'), (1, 1, 1), "quotes"),
    Row("with a point", THREE, say("3.0"), (1, 1, 1), "written otherwise"),
    Row("with a leading zero", THREE, say("03"), (1, 1, 1), "written otherwise"),
    Row("full-width", THREE, say("\uff13"), (1, 1, 1), "full-width"),
    Row("thousands set apart", {"count": 1200}, say("1,200"), (1, 1, 1), "thousands"),
    Row("none in words", NONE, say("none"), (1, 1, 1), "0 written"),
    Row("No Objects", NONE, say("No Objects"), (1, 1, 1), "0 written"),
    Row("points that were not asked for", THREE, say("3: (250,250), (700,700), (750,200)"), (1, 1, 1), "points beside"),
    Row("spaces and line breaks", THREE, say("\n 3 \n"), (1, 1, 1)),
    Row("another number in the reasoning", THREE, "<think>2? no</think><answer>3</answer>", (1, 1, 1)),
    Row("tags in capitals", THREE, "<Think>x</Think><Answer>3</Answer>", (1, 1, 0)),
    Row("the prompt opened the reasoning", THREE, "two and one</think><answer>3</answer>", (1, 1, 0)),
]  # fmt: skip
