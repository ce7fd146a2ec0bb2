"""Play the policy: answer a question of a run yourself, and see what it is worth and why.

Decision: everything but the model is real (data, prompt, processor, coordinate frame, task, rewards), so a reward that
is wrong, or a box in the wrong units, is found by hand in a minute. The model's weights are not loaded. Commands begin
with a colon and a completion ends with a line that holds a single dot, because completions hold anything else.

    > :sample 3
    > <think>top left</think>
    . <answer>No Objects</answer>
    . .
    total 1.000
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from visual_rft.config.config import Config
from visual_rft.data.sources import load_samples
from visual_rft.errors import DataError, printable
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt, tasks_for
from visual_rft.tasks import Sample, Score, Task, Tasks
from visual_rft.tasks.pictures import truth_and_answer
from visual_rft.tasks.truth import frame_of
from visual_rft.vision.coordinates import Frame
from visual_rft.vision.drawing import draw_marks, save_picture

HELP = """\
:next  :previous  :random     another question
:sample N                     question number N (from 1), or the one whose id is N
:prompt                       what the model is shown
:gold                         play the answer that deserves full marks
:wrong                        play the wrong answers that must score less, by name
:help  :quit
anything else                 a completion; end it with a line that holds a single dot"""


@dataclass
class Game:
    """The questions of a run and the question that is played.

    Attributes:
        config: the run.
        tasks: ask and score.
        samples: the questions.
        policy: the model without its weights; it knows prompts and frames.
        out: file of the picture.
        number: number of the current question, from 0.
    """

    config: Config
    tasks: Tasks
    samples: Any
    policy: Policy
    out: Path
    number: int = 0

    @classmethod
    def load(cls, config: Config, out: Path, held_out: bool = False) -> Game:
        """Read the data and the processor.

        Args:
            config: the whole run.
            out: file of the picture.
            held_out: whether to play ``data.evaluation`` instead of ``data.train``.

        Raises:
            VisualRFTError: if the config, data or model cannot be used.
        """
        task = tasks_for(config)
        samples = load_samples(config.data.evaluation if held_out else config.data.train, task)
        return cls(config, task, samples, load_policy(config.model, config.rollout, empty=True), out)

    def choose(self, name: str) -> None:
        """Go to the question of this number (from 1), or of this id.

        Raises:
            DataError: if there is none.
        """
        if name.isdecimal() and 1 <= int(name) <= len(self.samples):
            self.number = int(name) - 1
            return
        found = next((i for i, sample in enumerate(self.samples) if sample.id == name), None)
        if found is None:
            raise DataError(f"there is no question {name!r}; use a number from 1 to {len(self.samples)}, or an id")
        self.number = found

    def move(self, steps: int) -> None:
        """Go on (or back) by so many questions, round the end."""
        self.number = (self.number + steps) % len(self.samples)

    @property
    def sample(self) -> Sample:
        """The current question."""
        sample: Sample = self.samples[self.number]
        return sample

    @property
    def task(self) -> Task:
        """The task of the current question."""
        return self.tasks.of(self.sample)

    @property
    def prompt(self) -> str:
        """What the model is shown beside the image."""
        return self.task.worded(self.sample.question, self.policy.space)

    def frame(self) -> Frame | None:
        """The units in which the answer's boxes are read."""
        sample = self.sample
        (frame,) = self.policy.prepare([Prompt.of(self.task, sample, self.policy.space)]).frames
        return frame if frame is None else frame_of(sample.truth, frame)

    def gold(self) -> str:
        """The completion that deserves full marks."""
        return self.task.gold(self.sample.truth, self.frame())

    def score(self, completion: str) -> Score:
        """What a completion is worth; the picture with truth and answer is written.

        Raises:
            DataError: if the picture cannot be written.
        """
        sample, frame = self.sample, self.frame()
        score = self.task.score(completion, sample.truth, frame)
        save_picture(truth_and_answer(self.task, sample, score.answer, frame), self.out)
        return score

    def as_json(self, completion: str) -> dict[str, Any]:
        """One round: the question, the completion and what it is worth."""
        score = self.score(completion)
        return {
            "sample": self.sample.id,
            "prompt": self.prompt,
            "completion": completion,
            "rewards": dict(score.parts),
            "total": score.total,
            "answer": score.answer,
            "failure": score.failure,
            "notes": list(score.notes),
            "picture": str(self.out),
        }


def play(game: Game, source: TextIO, sink: TextIO, choose: random.Random | None = None) -> None:
    """Rounds until ``:quit`` or the end of the input.

    Args:
        game: the questions.
        source: stream in which commands and completions are typed.
        sink: stream on which everything is shown.
        choose: random numbers for ``:random``.

    Raises:
        DataError: if an image cannot be opened or the picture cannot be written.
    """
    choose = choose or random.Random()  # noqa: S311 - a question is picked, nothing is kept secret

    def say(text: str) -> None:
        print(printable(text, lines=True, limit=None), file=sink, flush=True)

    def lines() -> Iterator[str]:
        while True:
            print("> ", end="", file=sink, flush=True)
            line = source.readline()
            if not line:
                return
            yield line.rstrip("\n")

    say(HELP)
    _show(game, say)
    for line in lines():
        command, _, argument = line.strip().partition(" ")
        if not command.startswith(":"):
            if line.strip():
                _score(game, _rest_of(line, source, sink), say)
        elif command in (":quit", ":q"):
            return
        elif command == ":gold":
            gold = game.gold()
            say(gold)
            _score(game, gold, say)
        elif command == ":wrong":
            truth, frame = game.sample.truth, game.frame()
            for name, completion in game.task.wrong(truth, frame).items():
                say(f"{name}: total {game.task.score(completion, truth, frame).total:.3f}   {completion[:100]}")
        elif command == ":prompt":
            say(game.prompt)
        elif command in (":next", ":previous", ":random", ":sample"):
            try:
                if command == ":sample":
                    game.choose(argument.strip())
                else:
                    game.move({":next": 1, ":previous": -1}.get(command) or choose.randrange(len(game.samples)))
            except DataError as error:
                say(str(error))
                continue
            _show(game, say)
        else:
            say(HELP)


def _rest_of(first: str, source: TextIO, sink: TextIO) -> str:
    """A completion from its first line to a single dot, or to the end of the input."""
    lines = [first]
    while first.strip() != ".":
        print(". ", end="", file=sink, flush=True)
        line = source.readline()
        if not line or line.strip() == ".":
            break
        lines.append(line.rstrip("\n"))
    return "\n".join(lines)


def _show(game: Game, say: Callable[[str], None]) -> None:
    """The question; its picture is written without the truth, so that one can look before one answers."""
    sample, frame = game.sample, game.frame()
    save_picture(draw_marks(sample.images[0].load(), []), game.out)
    say(f"\nquestion {game.number + 1} of {len(game.samples)}: {sample.id}   picture {game.out}")
    if frame is not None:
        units, size = "{} x {}".format(*frame.extent), "{} x {} pixels".format(*frame.image_size)
        say(f"image {size}, answered in units of {units}")
    say(game.prompt)


def _score(game: Game, completion: str, say: Callable[[str], None]) -> None:
    score = game.score(completion)
    say(f"total {score.total:.3f}")
    weights = game.task.part_weights
    for name, value in score.parts.items():
        say(f"  {name:<20} {'does not apply' if value is None else f'{value:.3f}'}   weight {weights[name]:g}")
    if score.failure:
        say(f"failure  {score.failure}")
    else:
        say(f"answer   {json.dumps(score.answer)}")
    for note in score.notes:
        say(f"note     {note}")
    say(f"picture  {game.out}   (green: truth, red: answer)")
