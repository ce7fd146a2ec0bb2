"""Teach vision tower and language model together to find what was asked for: the stages ``bind`` and ``blur``.

Decision: two losses help while it is learnt and cost nothing afterwards (without `point`, another digit's place is
named in 0.25 of cases after 16,000 scenes, with it in 0.09).
`see` goes on from the stage before. `point` has one attention head look where it should: in layer 1 the last word of
what is asked for at the objects that are meant, in layer 2 every token that writes about an object at that object.
Half of the batches, at first most, end after the words that say where: these are what binding is, and the coordinates
that follow are two thirds of the tokens.

The forward pass is the library's own; only its queries and keys are computed a second time for the head that points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

from visual_rft.data.annotated import AnnotatedImage
from visual_rft.tiny.loop import Rate, learn
from visual_rft.tiny.packing import MAX_IMAGE_TOKENS, Packed, Pointing, pack
from visual_rft.tiny.questions import ask, blurred
from visual_rft.tiny.scenes import Scenes, grid_of
from visual_rft.tiny.see import Heads, quicken, scaled
from visual_rft.tiny.tokens import Exchange, Writer

CYCLE = (
    "digits", "shapes", "digits", "shapes", "flowers", "digits", "shapes", "digits", "shapes", "digits",
    "shapes", "digits", "shape", "digits", "shapes", "flowers", "digits", "shapes", "digits", "shapes",
)  # fmt: skip
"""Sources in turn: 9 of 20 scenes are digits, 9 are shapes, 2 are flowers."""
BATCH = 16
ASKED_LAYER, ANSWERED_LAYER = 1, 2
SEE_WEIGHT, POINT_WEIGHT = 0.6, 1.0
TOWER_RATE = 0.4
"""Factor of the learning rate for the tower, which has learnt before."""


@dataclass(frozen=True)
class Plan:
    """What distinguishes the stages.

    Attributes:
        name: of the stage.
        steps: how many.
        rate: peak of the learning rate.
        flat: share of the steps at the peak.
        whole: share of batches with whole answers, at the first and at the last step.
        helped: whether the helping losses are on.
        imprecision: how far boxes are enlarged and how often labels are mistaken (:mod:`visual_rft.data.imprecise`);
            None for the truth.
        first_scene: position in :data:`CYCLE`'s series.
        least_weight: of a token. Large boxes often begin at 0 or end at 1000, so where a number ends is learnt anew:
            with commas at 0.05, 3 of 10 blurred answers wrote digits without end.
    """

    name: str
    steps: int
    rate: float
    flat: float
    whole: tuple[float, float]
    helped: bool = True
    imprecision: tuple[float, float] | None = None
    first_scene: int = 0
    least_weight: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Scenes with their questions, packed; ``patches`` are the pixels of all of them, one after the other."""

    images: Sequence[AnnotatedImage]
    patches: torch.Tensor
    grids: torch.Tensor
    packed: Packed


def make_batch(
    images: Sequence[AnnotatedImage],
    patches: Sequence[npt.NDArray[np.uint8]],
    exchanges: Sequence[Sequence[Exchange]],
    writer: Writer,
    model: Any,
) -> Batch:
    """Images, their pixels and their exchanges on the model's device."""
    return Batch(
        images,
        scaled(patches, model.device),
        torch.tensor([grid_of(image) for image in images], device=model.device),
        pack(images, exchanges, writer, model.config.image_token_id, model.device),
    )


def draw_exchanges(
    images: Sequence[AnnotatedImage],
    writer: Writer,
    rng: np.random.Generator,
    whole: bool,
    imprecision: tuple[float, float] | None = None,
) -> list[list[Exchange]]:
    """What is asked about each image: 2 questions with whole answers, or 4 whose answers end after the last place."""
    rows = [ask(image, 2 if whole else 4, rng, styles=whole) for image in images]
    if imprecision:
        rows = [blurred(row, *imprecision, int(rng.integers(2**31))) for row in rows]
    exchanges = [[writer.write(question) for question in row] for row in rows]
    if whole:
        return exchanges
    return [[exchange.until_last_place(writer.places) for exchange in row] for row in exchanges]


def forward(model: Any, batch: Batch, helped: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The model on a batch.

    Returns:
        The last hidden states ``[B, L, D]``, the image tokens ``[T, D]``, and the loss `point` (0 if not ``helped``).
    """
    packed, language = batch.packed, model.model.language_model
    seen = model.model.visual(batch.patches, grid_thw=batch.grids, return_dict=True)
    tokens = language.embed_tokens(packed.ids)
    tokens = tokens.masked_scatter(packed.image[..., None], seen.pooler_output)
    inputs: dict[int, Any] = {}
    hooks = [language.layers[layer].self_attn.register_forward_pre_hook(
        lambda _module, _args, given, layer=layer: inputs.update({layer: given}), with_kwargs=True)
        for layer in ((ASKED_LAYER, ANSWERED_LAYER) if helped else ())]  # fmt: skip
    hidden = language(
        inputs_embeds=tokens, position_ids=packed.positions, attention_mask=packed.mask, use_cache=False,
        visual_pos_masks=packed.image, deepstack_visual_embeds=seen.deepstack_features,
    ).last_hidden_state  # fmt: skip
    for hook in hooks:
        hook.remove()
    point = hidden.new_zeros(())
    for layer, pointing in ((ASKED_LAYER, packed.asked), (ANSWERED_LAYER, packed.answered)):
        if helped and len(pointing.rows):
            point = point + _point(language.layers[layer].self_attn, inputs[layer], packed, pointing)
    return hidden, seen.pooler_output, point


def _point(attention: Any, given: Any, packed: Packed, pointing: Pointing) -> torch.Tensor:
    """Cross-entropy between where head 0 looks from some positions and where it should."""
    hidden, (cos, sin) = given["hidden_states"], given["position_embeddings"]
    width, at = attention.head_dim, (pointing.rows, pointing.columns)
    queries = attention.q_norm(F.linear(hidden, attention.q_proj.weight[:width]))[:, None]
    keys = attention.k_norm(F.linear(hidden, attention.k_proj.weight[:width]))[:, None]
    queries, keys = (states[:, 0] for states in apply_rotary_pos_emb(queries, keys, cos, sin))  # [B, L, width]
    logits = torch.einsum("nd,nld->nl", queries[at], keys[pointing.rows]) * attention.scaling
    logits = logits.masked_fill(~packed.mask[:, 0][at], -torch.inf)
    first = packed.first_image_token
    looks = F.log_softmax(logits, -1)[:, first : first + MAX_IMAGE_TOKENS]
    wanted = pointing.shares[:, : looks.shape[1]]
    return -torch.where(wanted > 0, wanted * looks, 0.0).sum(1).mean()


def bind(
    folder: Path,
    model: Any,
    heads: Heads,
    tokenizer: Any,
    scenes: Scenes,
    plan: Plan,
    say: Callable[[str], None],
    watch: Callable[[], str] | None = None,
    watch_every: int = 500,
) -> dict[str, float]:
    """Train ``model`` by ``plan``; returns what it took."""
    writer, device, seed = Writer(tokenizer), model.device, sum(map(ord, plan.name))
    quicken(model)
    embeddings = model.model.language_model.embed_tokens.weight
    places = torch.tensor(sorted(writer.places), device=device)

    def step_loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng((seed, step))
        share = plan.whole[0] + (plan.whole[1] - plan.whole[0]) * step / plan.steps
        first = plan.first_scene + step * BATCH
        turns = [scenes.turn(CYCLE, first + place) for place in range(BATCH)]
        images = [scenes.layout(*turn) for turn in turns]
        exchanges = draw_exchanges(images, writer, rng, bool(rng.random() < share), plan.imprecision)
        batch = make_batch(images, [scenes.patches(*turn) for turn in turns], exchanges, writer, model)
        hidden, image_tokens, point = forward(model, batch, plan.helped)
        learnt = batch.packed.targets >= 0
        targets, weights = batch.packed.targets[learnt], batch.packed.weights[learnt].clamp(min=plan.least_weight)
        logits = F.linear(hidden[learnt], embeddings)
        each = F.cross_entropy(logits, targets, reduction="none")
        answer = (each * weights).sum() / weights.sum()
        place = torch.isin(targets, places)
        right = (logits[place].argmax(-1) == targets[place]).float().mean().item() if place.any() else 0.0
        figures = {"answer": answer.item(), "place": right, "point": point.item()}
        if not plan.helped:
            return answer, figures
        see, named = heads.loss(image_tokens, batch.images)
        return answer + POINT_WEIGHT * point + SEE_WEIGHT * see, {**figures, **named}

    groups = [(model.model.language_model, 1.0), (model.model.visual, TOWER_RATE if plan.helped else 1.0)]
    spent = learn(
        folder, [*groups, (heads, 1.0)] if plan.helped else groups, Rate(plan.rate, 50, plan.flat, plan.steps),
        step_loss, name=plan.name, watch=watch, watch_every=watch_every, say=say,
    )  # fmt: skip
    return {**spent, "scenes": plan.steps * BATCH}
