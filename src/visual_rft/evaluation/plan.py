"""How an evaluation is done: what is asked, and everything that decides the answers.

Decision: a choice that would have no effect is refused, and what decides the answers is written down and names the
folder, so that an answer is never taken for one to another question.

    plan = Plan(protocol="all", classes=("cat", "dog"))
    truth, questions = chosen_questions(config, task, plan)
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visual_rft.answering.answering import BATCH, Answerer
from visual_rft.answering.class_list import AsksForClasses
from visual_rft.answering.questions import ImageQuestions, group_by_image
from visual_rft.answering.tiled import check_tiles
from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import ConfigError, DataError, printable
from visual_rft.evaluation.folders import weights_of
from visual_rft.evaluation.protocols import DetectionSet, Protocol, detection_set
from visual_rft.tasks import Task
from visual_rft.tasks.metrics.coco import Rules
from visual_rft.vision.tiles import Tiling


@dataclass(frozen=True)
class Plan:
    """How an evaluation is done, whichever the model.

    Attributes:
        protocol: name of the questions that are asked (detection; other tasks only know ``asked``).
        classes: the only classes to evaluate (protocols other than ``asked``); None takes all.
        rules: COCO's or LVIS's.
        batch: most questions answered at once.
        folder: folder of the answers and results.
        below: parent of a folder that is named after all that decides the answers; if both are None, nothing is
            written and nothing can be continued.
        segmenter: folder or hub id of a promptable segmenter, for masks in grounding; None compares boxes only.
        server: URLs of servers, all with the same model, which is asked instead of the config's.
        server_model: name of the model there; None takes the only one there is.
        tiles: how large pictures are asked about in parts (detection); None asks about whole ones.
    """

    protocol: Protocol = "asked"
    classes: tuple[str, ...] | None = None
    rules: Rules = "coco"
    batch: int = BATCH
    folder: Path | None = None
    below: Path | None = None
    segmenter: str | None = None
    server: tuple[str, ...] = ()
    server_model: str | None = None
    tiles: Tiling | None = None

    def of_task(self, called: str) -> Plan:
        """The plan for one of several tasks, which have folders of their own in the folder that is named."""
        return self if self.folder is None else replace(self, folder=self.folder / called)


def refuse_for_several(plan: Plan, tasks: Sequence[str]) -> None:
    """Refuse choices that are those of one task.

    Raises:
        ConfigError: naming the choice and the tasks.
    """
    given = {
        f"--protocol {plan.protocol}": plan.protocol != "asked",
        "--classes": plan.classes is not None,
        "--rules lvis": plan.rules == "lvis",
        "--segmenter": plan.segmenter is not None,
        "--tiles": plan.tiles is not None,
    }
    for name in (name for name, is_given in given.items() if is_given and len(tasks) > 1):
        raise ConfigError(
            f"{name} is for one task, and the held-out sources ask {', '.join(tasks)}: evaluate a config with the "
            "sources of one"
        )


Chosen = tuple[DetectionSet | None, list[ImageQuestions]]
"""The ground truth, if it is not that of the questions alone, and what is asked about each image."""


def chosen_questions(config: Config, task: Task, plan: Plan) -> Chosen:
    """The ground truth, if it is not that of the questions alone, and the questions image by image.

    Raises:
        ConfigError: if the task does not know the protocol, or a choice would have no effect.
        DataError: if the data are not usable.
    """
    if plan.tiles is not None:
        check_tiles(task)
        if plan.protocol == "said":
            raise ConfigError("--tiles knows the protocols asked, present and all")
    if plan.protocol == "asked":
        for name, chosen in (("--classes", plan.classes is not None), ("--rules lvis", plan.rules == "lvis")):
            if chosen:
                raise ConfigError(f"{name} needs one of --protocol present, all or said")
        samples = load_samples(config.data.evaluation, task)
        if plan.segmenter:
            if task.measured_as != "box":
                raise ConfigError(f"--segmenter: the task {task.name!r} has no masks; grounding has")
            bare = next((s.id for s in samples if "segmentation" not in s.truth), None)
            if bare is not None:
                raise DataError(f"--segmenter: question {bare!r} has no true mask (truth.segmentation)")
        return None, group_by_image(samples)
    if task.measured_as != "coco" or task.questions == "every":
        raise ConfigError(f"--protocol {plan.protocol}: the task is {task.name!r}; only detection has protocols")
    if plan.protocol == "said" and not isinstance(task, AsksForClasses):
        raise ConfigError(f"--protocol said: the task {task.name!r} has no classes_prompt that asks for the classes")
    if plan.segmenter:
        raise ConfigError("--segmenter: detection has no masks; grounding has")
    data = detection_set(
        config.data.evaluation, plan.classes, plan.rules, lambda text: print(printable(text), file=sys.stderr)
    )
    return data, data.questions(plan.protocol)


def settings_of(
    config: Config, plan: Plan, task: Task, questions: Sequence[ImageQuestions], model: Answerer
) -> dict[str, Any]:
    """Everything that decides the answers."""
    question_digest = hashlib.sha256()
    for one in questions:
        for sample in one.samples:
            keys = [image.key for image in sample.images]
            row = [sample.id, keys, task.worded(sample.question, model.space), sample.truth, one.choose]
            question_digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    used = ("visual-rft",) if plan.server else ("visual-rft", "torch", "transformers")
    return {
        "model": {"served": model.name} if plan.server else config.model.model_dump(mode="json"),
        "weights": weights_of(model.folder) if model.folder else [],
        "task": config.task.model_dump(mode="json", exclude={"weights"}),
        "protocol": plan.protocol,
        "classes": plan.classes and list(plan.classes),
        "max_new_tokens": config.rollout.max_new_tokens,
        **({} if plan.tiles is None else {"tiles": asdict(plan.tiles)}),
        "data": [source.model_dump(mode="json") for source in config.data.evaluation],
        "questions": question_digest.hexdigest(),
        "versions": {name: version(name) for name in used},
        **({"constrained": True} if config.rollout.constrained else {}),
    }
