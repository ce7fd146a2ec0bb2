"""Learning rates and recipes that were best on validation: read from a file, never typed into an experiment.

Decision: the package holds the choices that the committed evidence was made with (``tuned.json``), and ``--tune``
writes new ones beside the results, which are then taken there. The file names the weights of the base they are of.

    {"base": "9f...", "experiments": {"few-shot-detection": {"rft": {"learning_rate": 0.0001, "recipe": ""}}}}

>>> key_of("rft"), key_of("rft", "dapo")
('rft', 'dapo/rft')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from visual_rft.errors import RunFolderError
from visual_rft.evidence.experiments.catalogue import EXPERIMENTS
from visual_rft.evidence.experiments.description import ARMS, WITH_RECIPES, Experiment
from visual_rft.files import write_whole

COMMITTED = Path(__file__).parent / "tuned.json"
"""The choices of the committed evidence."""


@dataclass(frozen=True)
class Choice:
    """What an arm is run with.

    Attributes:
        learning_rate: its peak.
        recipe: name of the recipe of an arm that has several, else empty.
    """

    learning_rate: float
    recipe: str = ""


Choices = Mapping[str, Choice]
"""By :func:`key_of`."""


def key_of(arm: str, variant: str = "") -> str:
    """The name of an arm, or of an arm of a variant, in the file."""
    return f"{variant}/{arm}" if variant else arm


@dataclass
class Tuned:
    """The choices of all experiments.

    Attributes:
        base: fingerprint of the weights that they were made on; None where nothing was tuned yet.
        experiments: by name.
    """

    base: str | None
    experiments: dict[str, Choices]

    @classmethod
    def read(cls, file: Path) -> Tuned:
        """The choices of a file.

        Raises:
            RunFolderError: if it is not one.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            named = {
                name: {key: Choice(float(row["learning_rate"]), str(row["recipe"])) for key, row in rows.items()}
                for name, rows in content["experiments"].items()
            }
            return cls(content["base"], dict(named))
        except OSError as error:
            raise RunFolderError(f"{file}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{file}: no file of tuned learning rates ({error}); delete it and tune again"
            ) from None

    def write(self, file: Path) -> None:
        """Write it, a line per experiment and arm, so that another choice is another line."""
        parts = []
        for name, choices in sorted(self.experiments.items()):
            rows = [f"      {json.dumps(key)}: {json.dumps(asdict(choice))}" for key, choice in choices.items()]
            parts.append(f"    {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n    }")
        inside = "{\n" + ",\n".join(parts) + "\n  }" if parts else "{}"
        write_whole(file, f'{{\n  "base": {json.dumps(self.base)},\n  "experiments": {inside}\n}}\n', make_folder=True)

    def choices(self, name: str) -> tuple[Choices, list[str]]:
        """What the arms of an experiment are run with, and the names of those that were never tuned.

        These take the second of the learning rates that would be tried, and the first recipe.
        """
        known = self.experiments.get(EXPERIMENTS[name].rates_of or name, {})
        choices = {key: known.get(key, guess) for key, guess in guesses(EXPERIMENTS[name])}
        return choices, [key for key in choices if key not in known]


def guesses(experiment: Experiment) -> Iterator[tuple[str, Choice]]:
    """Where an arm begins that was not tuned: the second of the learning rates to be tried, and the first recipe."""
    rates = (EXPERIMENTS[experiment.rates_of] if experiment.rates_of else experiment).tries
    for arm in ARMS:
        if arm in WITH_RECIPES:
            if arm in experiment.recipes:
                yield arm, Choice(experiment.recipe_tries[arm][1], next(iter(experiment.recipes[arm])))
        elif arm == "sft-reasoning" and not any(domain.reasoning for domain in experiment.domains.values()):
            continue
        elif arm != "base" and not experiment.tuned:
            yield arm, Choice(rates[ARMS[arm][0]][1])
    if experiment.tuned:
        for variant, change in experiment.variants.items():
            for arm in change.arms:
                if arm != "base":
                    yield key_of(arm, variant), Choice(rates[ARMS[arm][0]][1])
