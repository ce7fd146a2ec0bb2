"""What other trainers pass to a reward, read: columns of a batch, truths, completions, the state of the training.

Decision: everything here is about the form in which a trainer hands a value over, nothing about what it is worth, so
that :mod:`visual_rft.tasks.adapters` holds one calling convention after the other and no parsing. A value of the wrong
form is an error that names the row.

>>> rows = Rows(2, {"boxes": [[[10, 10, 50, 50]], []], "image_size": [[100, 100], [80, 60]], "prompts": ["a", "b"]})
>>> rows.truth(1)
{'boxes': [], 'image_size': [80, 60]}
>>> completion_text([{"role": "user", "content": "?"}, {"role": "assistant", "content": "poppy"}], "row 0")
'poppy'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from visual_rft.errors import DataError

NOT_TRUTH = frozenset({
    "prompt", "prompts", "completion", "completions", "completion_ids", "image", "images", "videos", "audios",
    "messages", "trainer_state", "log_extra", "log_metric", "environments", "trajectory_inputs", "task", "id",
    "processed_size",
})  # fmt: skip
"""Columns that trainers add, or that say something about the row and not about the right answer."""


class Rows:
    """The columns a trainer passed, read by row.

    Args:
        count: completions in the batch, which is how long every column must be.
        columns: values by column name; besides lists of ``count`` values it may hold anything else a trainer adds.
    """

    def __init__(self, count: int, columns: Mapping[str, Any]) -> None:
        self.count, self.columns = count, columns
        self.own = {
            name: values
            for name, values in columns.items()
            if name not in NOT_TRUTH and isinstance(values, (list, tuple)) and len(values) == count
        }

    def place(self, row: int) -> str:
        """The row, and where its truth is, as an error message names them."""
        name = self.cell("id", row)
        where = "column 'truth'" if "truth" in self.columns else f"truth from the columns {', '.join(self.own)}"
        return f"row {row}, {where}" if name is None else f"row {row} ({name}), {where}"

    def cell(self, column: str, row: int) -> Any:
        """One value, None if there is no such column.

        Raises:
            DataError: if the column does not hold one value per completion.
        """
        values = self.columns.get(column)
        if values is None:
            return None
        if not isinstance(values, (list, tuple)) or len(values) != self.count:
            raise DataError(f"column {column!r}: is not a list of {self.count} values, one per completion")
        return values[row]

    def truth(self, row: int) -> Mapping[str, Any]:
        """The truth of a row: its value in the column ``truth``, else the truth's own fields.

        Raises:
            DataError: naming the row, if there is neither or it cannot be read.
        """
        if "truth" in self.columns:
            return truth_of(self.cell("truth", row), self.place(row))
        if not self.own:
            raise DataError(
                f"row {row}: no truth; the data set needs a column 'truth', or the truth's own fields as columns (e.g. "
                f"boxes and image_size); here are {', '.join(self.columns) or 'no columns'}"
            )
        return truth_of({name: values[row] for name, values in self.own.items()}, self.place(row))


def truth_of(value: object, place: str) -> Mapping[str, Any]:
    """A truth given as mapping or JSON text, without the fields that are null.

    Args:
        value: what a trainer passed; arrays become lists.
        place: names the row in error messages.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{place}: is not JSON ({error})") from None
    value = as_lists(value)
    if not isinstance(value, Mapping):
        raise DataError(f"{place}: {value!r} is neither a mapping nor JSON text of one")
    return {key: field for key, field in value.items() if field is not None}


def as_lists(value: Any) -> Any:
    """Arrays (tables read from Parquet hold them) as lists, all the way down."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: as_lists(field) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_lists(item) for item in value]
    return value


def completion_text(completion: object, row: str) -> str:
    """What the model wrote: the text itself, or the last message of the assistant, its reasoning in its tag again.

    Args:
        completion: text, a message (``role`` and ``content``) or a list of messages.
        row: names the row in error messages.

    Raises:
        DataError: if it is none of these.
    """
    if isinstance(completion, str):
        return completion
    messages = [completion] if isinstance(completion, Mapping) else completion
    if not (isinstance(messages, (list, tuple)) and all(isinstance(message, Mapping) for message in messages)):
        raise DataError(f"{row}: the completion is neither text nor messages but {type(completion).__name__}")
    own = [message for message in messages if message.get("role", "assistant") == "assistant"]
    if not own:
        return ""
    content = own[-1].get("content")
    if isinstance(content, (list, tuple)):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    # TRL takes the reasoning out of the text where the tokenizer has a response template.
    thought = own[-1].get("reasoning_content")
    return (f"<think>{thought}</think>" if thought else "") + (content if isinstance(content, str) else "")


def progress_of(state: Any) -> float:
    """How much of the training is done, in [0, 1], from TRL's ``trainer_state``; 0 where the trainer does not tell."""
    steps = getattr(state, "max_steps", 0)
    return min(1.0, state.global_step / steps) if steps > 0 else 0.0
