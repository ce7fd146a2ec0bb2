"""The parser of every verb: it refuses what it does not know, and says what was probably meant.

Decision: flags of config fields (``--section.field value``) are told apart by their dot before anything is parsed, so
they may stand anywhere, and whatever is left over is a mistake.

>>> split_fields(["--run.steps", "10", "run.yaml", "--resume", "--run.seed=1"])
(['run.yaml', '--resume'], ['--run.steps', '10', '--run.seed=1'])
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from visual_rft.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from visual_rft.vision.tiles import Tiling

_FIELD = re.compile(r"--[a-z_]+\.[^=\s]+(=.*)?", re.DOTALL)


OTHER_NAMES = {
    "batch_size": "run.prompts_per_batch",
    "epochs": "run.steps",
    "gradient_accumulation_steps": "run.accumulation",
    "kl": "objective.beta",
    "kl_coef": "objective.beta",
    "lr": "optimizer.learning_rate",
    "lora": "model.lora",
    "max_completion_length": "rollout.max_new_tokens",
    "max_steps": "run.steps",
    "num_epochs": "run.steps",
    "num_generations": "rollout.group_size",
    "num_train_epochs": "run.steps",
    "output": "run.folder",
    "output_dir": "run.folder",
    "per_device_train_batch_size": "run.prompts_per_batch",
    "rank": "model.lora.rank",
    "wd": "optimizer.weight_decay",
}
"""Fields by what other trainers call them; too far from ours to be found by their letters."""


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations that suggests the nearest verb, value or flag.

    Attributes:
        takes_fields: whether ``--section.field`` flags are known, too, and may be suggested.
        checks_words: whether an unknown word is refused; not while a shell completes half of one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.takes_fields = False
        self.checks_words = True

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As in the base class, which also calls it for the parser of each verb; nothing may be left over.

        An unknown flag is reported before a missing one, because it is usually the missing one misspelt.
        """
        if not self.checks_words:
            return super().parse_known_args(args, namespace)
        words = [] if self._subparsers else list(args)
        for word in words[: words.index("--") if "--" in words else None]:
            name = word.split("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self._refuse(word)
        parsed, rest = super().parse_known_args(args, namespace)
        if rest:
            self._refuse(rest[0])
        return parsed, []

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            self.error(f"{word!r} is one too many")
        flag = word.split("=")[0]
        other = OTHER_NAMES.get(flag.removeprefix("--").replace("-", "_")) if self.takes_fields else None
        if other is not None:
            self.error(f"unknown flag {flag!r}; did you mean '--{other}'?")
        known = [*self._option_string_actions, *(_fields(flag) if self.takes_fields else ())]
        self.error(f"unknown flag {flag!r}{did_you_mean(flag, known) or '; --help lists all'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), known) or f"; choose from {', '.join(known)}"
            raise argparse.ArgumentError(action, f"unknown {value!r}{hint}")


def _fields(flag: str) -> Iterator[str]:
    """Every ``--section.field`` whose last part is near to the flag's, for ``--step`` and ``--learning-rate``."""
    from visual_rft.config.describe import fields  # here, because it takes 0.2 s and only a mistake needs it

    wanted = flag.removeprefix("--").replace("-", "_")
    yield from (field.flag for field in fields() if did_you_mean(wanted, [field.flag.split(".")[-1]]))


def split_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other arguments, and the flags of config fields with their values."""
    others: list[str] = []
    fields: list[str] = []
    rest = iter(words)
    for word in rest:
        if match := _FIELD.fullmatch(word):
            fields.append(word)
            if match[1] is None:
                fields += [value for value in (next(rest, None),) if value is not None]
        else:
            others.append(word)
    return others, fields


def add_server_arguments(parser: argparse._ActionsContainer) -> None:
    """``--server`` and ``--server-model``, of every verb that asks a model."""
    parser.add_argument("--server", action="append", metavar="URL",
                        help="ask the model behind this OpenAI-compatible server, e.g. http://127.0.0.1:8000; "
                        "several times if all serve the same; a key is taken from VISUAL_RFT_SERVER_KEY")  # fmt: skip
    parser.add_argument("--server-model", metavar="NAME", help="the model's name there, if there are several")


def refuse_server_model(arguments: argparse.Namespace) -> None:
    """Refuse the name of a model on a server that is not asked.

    Raises:
        ConfigError: then.
    """
    if arguments.server_model is not None and not arguments.server:
        raise ConfigError("--server-model is the name on a server; say which with --server URL")


class DescribeFields(argparse.Action):
    """``--fields``: list every field of a config and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from visual_rft.config.describe import describe

        print(describe())
        parser.exit()


def add_sending(parser: argparse._ActionsContainer) -> None:
    """The flags without which nothing is sent to a hub, and nothing seen there by others."""
    parser.add_argument("--confirm", action="store_true", help="send it; without, only say what would be sent")
    parser.add_argument("--public", action="store_true", help="what is new there can be seen by everybody")


STYLES = ("method", "native", "plain")
"""In whose words boxes are asked for (``task.style``)."""


def add_asking(parser: argparse._ActionsContainer) -> None:
    """The flags that say how boxes are asked for and ranked, of the verbs that ask about pictures."""
    parser.add_argument("--scores", choices=("written", "tokens", "asked"), help="rank boxes by the confidence in the "
                        "answer, how likely their tokens were, or a second question about each (default: as in the "
                        "model's run, or written)")  # fmt: skip
    parser.add_argument("--style", choices=STYLES, help="ask for boxes in the method's words, those of the model's "
                        "family, or as plain lists (default: as in the model's run, or the method's)")  # fmt: skip
    parser.add_argument("--no-think", dest="think", action="store_false", default=None, help="ask for the answer "
                        "without reasoning first")  # fmt: skip


def add_checkpoint(parser: argparse._ActionsContainer) -> None:
    """The flag that chooses among the checkpoints of a run folder."""
    parser.add_argument("--checkpoint", metavar="WHICH", help="of a run folder: last (default), best (by the run's "
                        "run.best) or a step such as step-000040")  # fmt: skip


def add_tiles(parser: argparse._ActionsContainer) -> None:
    """The flags that cut large pictures into tiles; :func:`tiling` reads them."""
    parser.add_argument("--tiles", type=int, metavar="SIZE", help="detection: ask about large pictures in tiles of so "
                        "many pixels a side, and put the boxes together")  # fmt: skip
    parser.add_argument("--overlap", type=float, metavar="SHARE", help="least share of its side that a tile has in "
                        "common with the next one (default 0.2)")  # fmt: skip


def tiling(arguments: argparse.Namespace) -> Tiling | None:
    """The tiles that are asked for; None without.

    Raises:
        ConfigError: if a number is out of range, or an overlap is given without tiles.
    """
    if arguments.tiles is None:
        if arguments.overlap is not None:
            raise ConfigError("--overlap is that of tiles; name their size with --tiles")
        return None
    from visual_rft.vision.tiles import Tiling

    return Tiling(arguments.tiles, *([] if arguments.overlap is None else [arguments.overlap]))
