"""What several completions of a prompt have in common, computed once.

Decision: completions of one prompt often begin alike or are the same answer (four of five sampled by a model that
classifies flowers), and a token's hidden state depends on what stands before it alone. So the completions of a pass are
a tree: each token after the same prompt and the same tokens is one node, run once through every layer. Values and
gradients are those of the rows; where nothing is shared the tree is the rows.

>>> tree = Tree.of([[5, 6, 7], [5, 6, 8], [5, 6, 7]], prompts=(0, 0, 0))
>>> tree.tokens, tree.depths, tree.paths        # 5 and 6 are read once; the last token of a row is never read
([5, 6], [0, 1], [[0, 1], [0, 1], [0, 1]])
>>> tree.predicted, tree.sources, tree.rows     # 7 and 8 are both predicted after 6
([5, 6, 7, 8], [0, 1, 2, 2], [[0, 1, 2], [0, 1, 3], [0, 1, 2]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tree:
    """Different tokens of some completions; a node is a token that is read, a prediction one that is scored.

    Attributes:
        prompts: the prompts that are continued, ascending.
        tokens: token of each node; nodes of one prompt follow each other.
        depths: place of each node in its completion, from 0.
        origins: prompt of each node.
        paths: nodes of each row, first to last, all tokens but the last.
        predicted: token of each prediction.
        sources: what each prediction follows: a place in ``prompts``, or ``len(prompts)`` plus the number of a node.
        rows: predictions of each row, one per token.
    """

    prompts: list[int]
    tokens: list[int]
    depths: list[int]
    origins: list[int]
    paths: list[list[int]]
    predicted: list[int]
    sources: list[int]
    rows: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], prompts: Sequence[int]) -> Tree:
        """The tree of completions.

        Args:
            rows: tokens of each, at least 1.
            prompts: the prompt that each continues, ascending.
        """
        roots = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        tree = cls(list(roots), [], [], [], [], [], [], [])
        predictions: dict[tuple[int, int], int] = {}
        nodes: dict[int, int] = {}  # of the predictions that are read too
        for row, prompt in zip(rows, prompts, strict=True):
            source, path, predicted = roots[prompt], [], []
            for depth, token in enumerate(row):
                prediction = predictions.setdefault((source, token), len(predictions))
                if prediction == len(tree.predicted):
                    tree.predicted.append(token)
                    tree.sources.append(source)
                predicted.append(prediction)
                if depth + 1 == len(row):
                    break
                node = nodes.setdefault(prediction, len(tree.tokens))
                if node == len(tree.tokens):
                    tree.tokens.append(token)
                    tree.depths.append(depth)
                    tree.origins.append(prompt)
                path.append(node)
                source = len(roots) + node
            tree.paths.append(path)
            tree.rows.append(predicted)
        return tree
