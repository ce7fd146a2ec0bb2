"""What goes over the wire to ``/v1/chat/completions``, and what comes back.

Decision: plain dictionaries of the standard that every OpenAI-compatible server knows; fields of vLLM's own are sent
only where something needs them (token ids, a pattern, top-k). An answer is checked against its question before anybody
sees it: another model, fewer choices or cut-off lists are a :class:`Fault`, never a shorter result.

>>> body = Decoding(max_tokens=8).body("tiny", "Find every cat", ["data:image/png;base64,AA=="])
>>> [part["type"] for part in body["messages"][0]["content"]], body["temperature"]
(['image_url', 'text'], 0.0)
>>> choice = {"message": {"content": "none"}, "finish_reason": "stop"}
>>> read_reply({"model": "tiny", "choices": [choice]}, "tiny", Decoding()).texts
('none',)
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from visual_rft.vision.images import ImageReference

PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Fields of vLLM's that it would take from the checkpoint's ``generation_config`` if they were not said."""


class Question(Protocol):
    """What a server is asked: a :class:`visual_rft.policy.prompt.Prompt`, for example."""

    @property
    def id(self) -> str:
        """Names it in error messages."""

    @property
    def text(self) -> str:
        """The words, after the images."""

    @property
    def images(self) -> Sequence[ImageReference]:
        """The images in order."""


class Fault(Exception):
    """An answer that cannot be used; says why in words.

    Attributes:
        pause: least seconds before another try.
        again: whether another try may help.
    """

    def __init__(self, message: str, *, pause: float = 0.0, again: bool = True) -> None:
        super().__init__(message)
        self.pause, self.again = pause, again


@dataclass(frozen=True)
class Decoding:
    """How a server is to answer.

    Attributes:
        n: completions per question.
        temperature: 0 takes the most likely token.
        max_tokens: most tokens of a completion.
        top_p: most likely tokens up to this total probability, in (0, 1].
        top_k: the k most likely tokens; 0 keeps all (a field of vLLM's where it is not 0).
        seed: of the completions; None leaves it to the server.
        token_ids: whether ids and log-probabilities of all tokens are wanted (fields of vLLM's).
        forbidden: ids of tokens that are never to be sampled.
        pattern: regular expression of a whole completion; None lets it say anything (a field of vLLM's).
        grammar: the same as a grammar of llguidance, taken instead where it is given: vLLM's backend ``guidance`` then
            allows exactly the tokens that our own sampler allows.
    """

    n: int = 1
    temperature: float = 0.0
    max_tokens: int = 160
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    token_ids: bool = False
    forbidden: tuple[int, ...] = ()
    pattern: str | None = None
    grammar: str | None = None

    @property
    def form(self) -> dict[str, str]:
        """What a completion has to follow, as vLLM names it; empty if nothing."""
        if self.grammar:
            return {"grammar": self.grammar}
        return {"regex": self.pattern} if self.pattern else {}

    def body(self, model: str, text: str, urls: Sequence[str], limit_name: str = "max_tokens") -> dict[str, Any]:
        """The JSON of a request.

        Args:
            model: name under which the server knows the model.
            text: the question.
            urls: data URLs of its images, which come before the text.
            limit_name: what the server calls the greatest number of tokens.
        """
        content = [
            *({"type": "image_url", "image_url": {"url": url}} for url in urls),
            {"type": "text", "text": text},
        ]
        return {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            limit_name: self.max_tokens,
            **({"seed": self.seed} if self.seed is not None else {}),
            **({"logprobs": True, "return_token_ids": True, **PLAIN} if self.token_ids else {}),
            **({"top_k": self.top_k} if self.top_k else {}),
            **({"logit_bias": {str(i): -100 for i in self.forbidden}} if self.forbidden else {}),
            **({"structured_outputs": self.form} if self.form else {}),
        }


@dataclass(frozen=True)
class Reply:
    """What a server said to one question.

    Attributes:
        texts: n completions, with their reasoning in front where the server keeps it apart.
        cut: whether each was cut off at the length limit.
        ids: token ids of each completion, the end token included; None where they were not asked for.
        logprobs: log-probability of each of these tokens; None where they were not asked for.
        prompt_ids: token ids of the prompt as the server made it; None where the ids were not asked for.
        model: name of the model that answered.
        version: version of the weights that answered, where the server says it.
    """

    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    ids: tuple[tuple[int, ...], ...] | None
    logprobs: tuple[tuple[float, ...], ...] | None
    prompt_ids: tuple[int, ...] | None
    model: str
    version: str | None = None


def data_url(image: ImageReference) -> str:
    """The picture as a data URL: upright RGB as PNG, so that the server sees the pixels that our own models see.

    Raises:
        DataError: if the image cannot be opened.
    """
    buffer = io.BytesIO()
    image.load().save(buffer, "PNG", compress_level=1)  # 6, the default, takes three times as long for a tenth less
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def read_reply(answer: Any, model: str, decoding: Decoding) -> Reply:
    """The checked content of a response.

    Args:
        answer: the JSON that came back.
        model: name of the model that was asked.
        decoding: how it was to answer.

    Raises:
        Fault: naming what is not as asked.
    """
    answered, choices = _field(answer, "model", str), _field(answer, "choices", list)
    if answered != model and not answered.startswith(f"{model}-"):  # a hosted name is answered by a dated one
        raise Fault(f"model {answered!r} answered, {model!r} was asked")
    if len(choices) != decoding.n:
        raise Fault(f"{len(choices)} choices came back, {decoding.n} were asked for")
    ids = logprobs = prompt_ids = None
    if decoding.token_ids:
        prompt_ids = tuple(_ids(answer, "prompt_token_ids"))
        ids = tuple(tuple(_ids(choice, "token_ids")) for choice in choices)
        logprobs = tuple(tuple(_logprobs(choice)) for choice in choices)
        wrong = next(((len(a), len(b)) for a, b in zip(ids, logprobs, strict=True) if len(a) != len(b)), None)
        if wrong is not None:
            raise Fault(f"{wrong[0]} token ids and {wrong[1]} log-probabilities of one completion came back")
    told = answer.get("weight_version") or (answer.get("metadata") or {}).get("weight_version")
    return Reply(
        texts=tuple(_text(choice) for choice in choices),
        cut=tuple(choice.get("finish_reason") == "length" for choice in choices),
        ids=ids,
        logprobs=logprobs,
        prompt_ids=prompt_ids,
        model=answered,
        version=None if told is None else str(told),
    )


def _text(choice: Any) -> str:
    """The completion; reasoning that a server keeps apart, or whose first tag was in the prompt, is put in front."""
    message = _field(choice, "message", dict)
    content, reasoning = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise Fault("the content of an answer is no text")
    if reasoning:
        return f"<think>{reasoning}</think>{content}"
    before, closing, _ = content.partition("</think>")
    return f"<think>{content}" if closing and "<think>" not in before else content


def _ids(row: Any, name: str) -> list[int]:
    values = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise Fault(f"no {name} came back; a server that takes rollouts gives them, as vLLM does (return_token_ids)")
    return values


def _logprobs(choice: Mapping[str, Any]) -> list[float]:
    rows = (choice.get("logprobs") or {}).get("content")
    if not isinstance(rows, list):
        raise Fault("no log-probabilities came back")
    return [float(_field(row, "logprob", int | float)) for row in rows]


def _field(row: Any, name: str, kind: Any) -> Any:
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, kind):
        raise Fault(f"the answer has no {name!r} as the standard wants it")
    return value
