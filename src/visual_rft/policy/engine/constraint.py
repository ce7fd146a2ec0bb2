"""Completions that follow a pattern: which tokens may come next, by llguidance (the package ``llguidance``).

Decision: a token that the pattern does not allow has probability 0, in sampling and in scoring alike, so what is
learned from is the distribution that was sampled. Scoring finds the allowed tokens by following the completion again;
they are kept as bits, 32 tokens in a number, because as booleans they would be as large as a quarter of the logits.
Tags that a vocabulary holds as tokens of their own (``<think>`` of Qwen3) may be written as those tokens.

    constraint = Constraint.of("<answer>(cat|dog)</answer>", tokenizer, vocabulary=151_936, end_ids=[151_645])
    following = constraint.follow(["classification"] * 4)
    following.allowed([0, 1, 2, 3])        # [4, vocabulary] bool
    following.take([0, 1], [5, 9])
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from visual_rft.errors import ConfigError, ModelError


class Constraint:
    """A pattern that whole completions follow, or one for the completions of each task.

    Args:
        patterns: regular expressions of whole completions, by task.
        grammars: the same for llguidance.
        tokenizer: of llguidance.
        vocabulary: number of logits.
        end_ids: tokens that end a completion.
    """

    def __init__(
        self,
        patterns: Mapping[str, str],
        grammars: Mapping[str, str],
        tokenizer: Any,
        vocabulary: int,
        end_ids: Sequence[int],
    ) -> None:
        self.patterns, self.grammars, self.tokenizer, self.vocabulary = patterns, grammars, tokenizer, vocabulary
        self.end_ids = frozenset(end_ids)
        ends = torch.zeros(-(-vocabulary // 32) * 32, dtype=torch.int64)
        ends[sorted(self.end_ids)] = 1
        words = (ends.view(-1, 32) << torch.arange(32)).sum(1)
        self.only_ends = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)

    @classmethod
    def of(
        cls, pattern: str | Mapping[str, str], tokenizer: Any, vocabulary: int, end_ids: Sequence[int]
    ) -> Constraint:
        """From a regular expression, or one for each task.

        Args:
            pattern: regular expression of a whole completion, without anchors; several by the task of their prompts.
            tokenizer: the model's, a fast one.
            vocabulary: number of logits, at least that of the tokens.
            end_ids: tokens that end a completion, allowed where the pattern is complete.

        Raises:
            ConfigError: if llguidance is not installed, or does not take the pattern.
            ModelError: if it cannot use the tokenizer.
        """
        try:
            from llguidance import LLMatcher
            from llguidance.hf import from_tokenizer
        except ImportError:
            raise ConfigError("constrained answers need llguidance: pip install 'visual-rft[constrained]'") from None
        try:
            known = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(end_ids))
        except Exception as error:  # whatever it says of a tokenizer that it does not know
            raise ModelError(f"the model's tokenizer cannot be used for constrained answers ({error})") from error
        patterns = {"": pattern} if isinstance(pattern, str) else dict(pattern)
        grammars = {}
        for task, one in patterns.items():
            grammars[task] = LLMatcher.grammar_from_lark(_lark(one, tokenizer.get_added_vocab()))
            problem = LLMatcher.validate_grammar(grammars[task], known)
            if problem:
                raise ConfigError(f"the pattern {one!r} cannot be followed: {' '.join(problem.split())[:200]}")
        return cls(patterns, grammars, known, vocabulary, end_ids)

    def grammar(self, task: str) -> str:
        """What completions of a prompt of this task follow, for llguidance; the only one there is, whatever its task is
        called."""
        return next(iter(self.grammars.values())) if len(self.grammars) == 1 else self.grammars[task]

    def follow(self, tasks: Sequence[str]) -> Following:
        """Completions from their start, one of a prompt of each of these tasks."""
        return Following(self, tasks)

    def bits(self, ids: Tensor, mask: Tensor, tasks: Sequence[str]) -> Tensor:
        """What was allowed at each token of finished completions, ``[n, T, ceil(vocabulary / 32)]`` int32.

        Args:
            ids: ``[n, T]`` token ids.
            mask: ``[n, T]`` bool, true for real tokens.
            tasks: of the n prompts.
        """
        words = -(-self.vocabulary // 32)
        found = torch.full((*ids.shape, words), -1, dtype=torch.int32)  # all bits: where nothing is asked
        for row, (tokens, real) in enumerate(zip(ids.tolist(), mask.tolist(), strict=True)):
            following = self.follow([tasks[row]])
            for step, token in enumerate(tokens):
                if not real[step]:
                    break
                found[row, step] = following.bits(0)
                following.take([0], [token])
        return found.to(ids.device)

    def unpacked(self, bits: Tensor) -> Tensor:
        """``[..., vocabulary]`` bool from ``[..., words]`` int32."""
        shifts = torch.arange(32, dtype=torch.int32, device=bits.device)
        return ((bits[..., None] >> shifts) & 1).bool().flatten(-2)[..., : self.vocabulary]


_TAG = re.compile(r"(</?(?:think|answer)>)")


def _lark(pattern: str, added: Mapping[str, int]) -> str:
    """The pattern as a grammar of llguidance, in which a token of the vocabulary's own is not its characters: a tag is
    that token, or its characters, which may be a part of a longer token.

    >>> print(_lark("<think>[^<]+</think>", {"<think>": 7}))
    start: (<[7]> | "<think>") PART_1 "</think>"
    PART_1: /[^<]+/
    """
    parts = [part for part in _TAG.split(pattern) if part]
    tags = {part: f'(<[{added[part]}]> | "{part}")' if part in added else f'"{part}"' for part in parts}
    names = [tags[part] if _TAG.fullmatch(part) else f"PART_{number}" for number, part in enumerate(parts)]
    escaped = [re.sub(r"(?<!\\)/", r"\\/", part) for part in parts]
    rules = [f"{name}: /{part}/" for name, part in zip(names, escaped, strict=True) if name.startswith("PART_")]
    return "\n".join([f"start: {' '.join(names)}", *rules])


class Following:
    """Completions on their way along the pattern.

    Args:
        constraint: the pattern.
        tasks: of their prompts.
    """

    def __init__(self, constraint: Constraint, tasks: Sequence[str]) -> None:
        from llguidance import LLMatcher

        self.constraint = constraint
        self._ended = [False] * len(tasks)
        self._matchers = [LLMatcher(constraint.tokenizer, constraint.grammar(task)) for task in tasks]

    def bits(self, row: int) -> Tensor:
        """The tokens that may come next in one completion, ``[ceil(vocabulary / 32)]`` int32; all after its end.

        Raises:
            ModelError: if the pattern was left.
        """
        words = -(-self.constraint.vocabulary // 32)
        matcher = self._matchers[row]
        if self._ended[row]:
            return torch.full((words,), -1, dtype=torch.int32)
        if matcher.is_error():
            raise ModelError(f"a completion has left the pattern of its answer ({matcher.get_error()[:200]})")
        if matcher.is_stopped():  # the pattern is complete, and nothing can follow
            return self.constraint.only_ends
        mask = torch.frombuffer(bytearray(matcher.compute_bitmask()), dtype=torch.int32)
        return torch.nn.functional.pad(mask, (0, words - len(mask)))[:words]

    def allowed(self, rows: Sequence[int]) -> Tensor:
        """The same for several completions, ``[n, vocabulary]`` bool."""
        return self.constraint.unpacked(torch.stack([self.bits(row) for row in rows]))

    def take(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """These completions go on with these tokens."""
        for row, token in zip(rows, tokens, strict=True):
            if not self._matchers[row].is_stopped():
                self._matchers[row].consume_token(token)
            self._ended[row] = self._ended[row] or token in self.constraint.end_ids
