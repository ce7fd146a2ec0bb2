"""Attention in parts against one softmax over everything, and the kernels against each other."""

from __future__ import annotations

import pytest
import torch
from support.attention import LAYOUTS, in_a_row, rows_alone, whole

from visual_rft.policy.engine.attention import flash
from visual_rft.policy.engine.attention.decoding import BLOCK_TOKENS, DecodingAttention
from visual_rft.policy.engine.attention.layout import Layout
from visual_rft.policy.engine.attention.shared_prefix import CompletionAttention, PromptAttention

SCALE = 0.3


@pytest.mark.parametrize("kernel", ["cpu", "plain"])
def test_parts_merge_to_the_whole_with_exact_gradients(monkeypatch, kernel):
    if kernel == "plain":  # what a device without a flash kernel takes
        monkeypatch.setattr(flash, "_on_cpu", lambda q: False)
    torch.manual_seed(0)
    q = torch.randn(2, 3, 7, 16, requires_grad=True)
    parts = [torch.randn(2, 3, length, 16, requires_grad=True) for length in (5, 5, 9, 9)]
    k1, v1, k2, v2 = parts
    expected = whole(q, torch.cat([k1, k2], 2), torch.cat([v1, v2], 2), causal=False, scale=SCALE)
    grad = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, [q, *parts], grad)
    with torch.no_grad():
        one, one_lse = flash.forward(q, k1, v1, causal=False, scale=SCALE)
        two, two_lse = flash.forward(q, k2, v2, causal=False, scale=SCALE)
        out, lse = flash.merge(one, one_lse, two, two_lse)
        q1, dk1, dv1 = flash.backward(grad, q, k1, v1, out, lse, causal=False, scale=SCALE)
        q2, dk2, dv2 = flash.backward(grad, q, k2, v2, out, lse, causal=False, scale=SCALE)
    torch.testing.assert_close(out, expected.detach())
    for got, want in zip((q1 + q2, dk1, dv1, dk2, dv2), expected_gradients, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["cpu", "plain"])
def test_causal_part(monkeypatch, kernel):
    if kernel == "plain":
        monkeypatch.setattr(flash, "_on_cpu", lambda q: False)
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, 3, 6, 8, requires_grad=True) for _ in range(3))
    expected = whole(q, k, v, causal=True, scale=SCALE)
    grad = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, [q, k, v], grad)
    with torch.no_grad():
        out, lse = flash.forward(q, k, v, causal=True, scale=SCALE)
        got = flash.backward(grad, q, k, v, out, lse, causal=True, scale=SCALE)
    torch.testing.assert_close(out, expected.detach())
    for one, other in zip(got, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)], ids=str)
def test_completions_attend_to_their_prompt_and_to_themselves(layout, heads):
    prompt_lengths, lengths, prompts = LAYOUTS[layout]
    query_heads, kv_heads = heads
    torch.manual_seed(2)

    def leaf(heads, tokens):
        return torch.randn(1, heads, tokens, 8, requires_grad=True)

    q, k, v = leaf(query_heads, sum(lengths)), leaf(kv_heads, sum(lengths)), leaf(kv_heads, sum(lengths))
    prefix_k, prefix_v = leaf(kv_heads, sum(prompt_lengths)), leaf(kv_heads, sum(prompt_lengths))
    layout_ = Layout.of(lengths, prompts, prompt_lengths, torch.device("cpu"))
    attention = CompletionAttention(((in_a_row(prefix_k), in_a_row(prefix_v)),), layout_)
    got = attention(0, *map(in_a_row, (q, k, v)), SCALE).transpose(0, 1)[None]
    expected = rows_alone(q, k, v, prefix_k, prefix_v, layout, SCALE)
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(got)
    leaves = [q, k, v, prefix_k, prefix_v]
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fixed", [False, True], ids=["growing", "fixed"])
@pytest.mark.parametrize("lengths", [(4, 4), (3, 6)], ids=str)
def test_decoding_token_by_token_equals_scoring_at_once(lengths, fixed):
    """Longer than a block of the buffers, and smaller after completions have ended."""
    torch.manual_seed(3)
    tokens, group = BLOCK_TOKENS + 5, 3
    prefix = (torch.randn(sum(lengths), 2, 8), torch.randn(sum(lengths), 2, 8))
    rows = len(lengths) * group
    q, k, v = (torch.randn(heads, rows, tokens, 8) for heads in (4, 2, 2))
    layout = Layout.of((tokens,) * rows, tuple(i // group for i in range(rows)), lengths, torch.device("cpu"))
    expected = CompletionAttention((prefix,), layout)(0, *(x.flatten(1, 2).transpose(0, 1) for x in (q, k, v)), SCALE)
    expected = expected.unflatten(0, (rows, tokens))
    decoding = DecodingAttention((prefix,), lengths, group, fixed=fixed)
    slots = torch.arange(rows)
    for t in range(tokens):
        decoding.begin_token()
        got = decoding(0, *(x[:, slots, t].transpose(0, 1) for x in (q, k, v)), SCALE)
        torch.testing.assert_close(got, expected[slots, t])
        if t == 10:  # only one completion of the second prompt goes on
            kept = decoding.compact(slots == rows - 1)
            assert kept is not None
            assert kept.tolist() == [rows - 1]
            slots = slots[kept]
        if t == 20 and not fixed:  # it is drawn twice from here on
            decoding.select([0, 0])
            slots = slots[[0, 0]]


def test_what_a_recorded_step_reads_stays_in_its_place_while_the_blocks_do():
    """A graph holds addresses: a tensor that is replaced between two tokens of a block would be read no more."""
    prefix = (torch.randn(7, 2, 8), torch.randn(7, 2, 8))
    decoding = DecodingAttention((prefix,), (3, 4), 2, fixed=True)
    places: dict[int, set[tuple[int, ...]]] = {}
    for length in range(1, BLOCK_TOKENS + 3):
        decoding.begin_token()
        read = (decoding.own_keys[0], decoding.own_values[0], decoding.own_bias, decoding._place)
        places.setdefault(decoding.capacity, set()).add(tuple(x.data_ptr() for x in read))
        assert (decoding.own_bias == 0).sum() == length
    assert [len(found) for found in places.values()] == [1, 1]


def test_a_rectangle_shrinks_only_where_half_of_it_can_go():
    prefix = (torch.randn(6, 1, 4), torch.randn(6, 1, 4))
    decoding = DecodingAttention((prefix,), (3, 3), 4, fixed=True)
    decoding.begin_token()
    decoding(0, *(torch.randn(8, 1, 4) for _ in range(3)), SCALE)
    # One of the first prompt has ended, none of the second: the rectangle stays as wide.
    assert decoding.compact(torch.tensor([1, 0, 1, 1, 1, 1, 1, 1]).bool()) is None
    # One of the first and two of the second are left: an ended slot of the first stays to fill its row.
    kept = decoding.compact(torch.tensor([0, 0, 1, 0, 0, 1, 0, 1]).bool())
    assert kept is not None
    assert kept.tolist() == [2, 0, 5, 7]


def test_slots_split_and_go_as_if_each_had_always_been_alone():
    """Slots of three prompts that split, in any order, against every one of them on its own from the start."""
    torch.manual_seed(5)
    lengths = (3, 5, 2)
    prefix = (torch.randn(sum(lengths), 2, 8), torch.randn(sum(lengths), 2, 8))
    ends = [0, 3, 8, 10]
    decoding = DecodingAttention((prefix,), lengths, 1, rows=7)
    histories: list[list[tuple[torch.Tensor, ...]]] = [[] for _ in lengths]
    owners = [0, 1, 2]
    for parents in ([0, 1, 2], [0, 1, 2, 2, 0], [0, 1, 2, 3, 4, 4, 1], [6, 1, 0], [0, 1, 2, 0], [1]):
        decoding.select(parents)
        owners = [owners[i] for i in parents]
        q, k, v = (torch.randn(len(parents), heads, 8) for heads in (4, 2, 2))
        histories = [[*histories[i], (k[slot], v[slot])] for slot, i in enumerate(parents)]
        decoding.begin_token()
        got = decoding(0, q, k, v, SCALE)
        for slot, (owner, history) in enumerate(zip(owners, histories, strict=True)):
            before = [x[ends[owner] : ends[owner + 1]] for x in prefix]
            keys, values = (
                torch.cat([own, torch.stack(new)]).transpose(0, 1).repeat_interleave(2, 0)[None]
                for own, new in zip(before, zip(*history, strict=True), strict=True)
            )
            expected = whole(q[slot][None, :, None], keys, values, causal=False, scale=SCALE)
            torch.testing.assert_close(got[slot], expected[0, :, 0])


def test_completions_that_begin_alike_are_one_tree():
    """Against each completion on its own, where tokens of the row stand for several completions; gradients too."""
    torch.manual_seed(6)
    paths = [[0, 1, 2], [0, 1, 3, 4, 5, 6], [0], [7, 8], [7, 8], [7, 9]]
    prompts, lengths = (0, 0, 0, 1, 1, 1), (4, 3)
    leaves = [torch.randn(n, heads, 8, requires_grad=True) for n, heads in ((10, 4), (10, 2), (10, 2), (7, 2), (7, 2))]
    q, k, v, prefix_k, prefix_v = leaves
    layout = Layout.of([len(path) for path in paths], prompts, lengths, torch.device("cpu"), paths)
    got = CompletionAttention(((prefix_k, prefix_v),), layout)(0, q, k, v, SCALE)
    expected: dict[int, torch.Tensor] = {}
    for path, prompt in zip(paths, prompts, strict=True):
        before = slice(0, 4) if prompt == 0 else slice(4, 7)
        for place, token in enumerate(path):
            keys, values = (
                torch.cat([p[before], x[path[: place + 1]]]).transpose(0, 1).repeat_interleave(2, 0)[None]
                for p, x in ((prefix_k, k), (prefix_v, v))
            )
            out = whole(q[token][None, :, None], keys, values, causal=False, scale=SCALE)
            expected.setdefault(token, out[0, :, 0])
    wanted = torch.stack([expected[token] for token in range(10)])
    torch.testing.assert_close(got, wanted)
    grad = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, leaves, grad), torch.autograd.grad(wanted, leaves, grad), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["cpu", "plain"])
def test_query_heads_share_keys_without_copies_of_them(monkeypatch, kernel):
    if kernel == "plain":
        monkeypatch.setattr(flash, "_on_cpu", lambda q: False)
    torch.manual_seed(7)
    for batch in (1, 3):
        q, k, v = (torch.randn(batch, heads, 6, 8, requires_grad=True) for heads in (6, 2, 2))
        expected = whole(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1), causal=True, scale=SCALE)
        grad = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, [q, k, v], grad)
        with torch.no_grad():
            out, lse = flash.forward(q, k, v, causal=True, scale=SCALE)
            got = flash.backward(grad, q, k, v, out, lse, causal=True, scale=SCALE)
        torch.testing.assert_close(out, expected.detach())
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_prompts_attend_to_themselves_and_leave_their_keys():
    torch.manual_seed(4)
    for lengths in ((4, 4), (2, 5)):
        q, k, v = (torch.randn(1, heads, sum(lengths), 8) for heads in (4, 2, 2))
        attention = PromptAttention(lengths)
        row = [in_a_row(x) for x in (q, k, v)]
        got = attention(0, *row, SCALE)
        parts = zip(
            *(x.split(lengths, 2) for x in (q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))), strict=True
        )
        expected = torch.cat([whole(*part, causal=True, scale=SCALE) for part in parts], 2)
        torch.testing.assert_close(got, in_a_row(expected))
        layers = attention.take()
        attention(0, *(x + 1 for x in row), SCALE)  # a layer run again for its gradient changes nothing
        assert layers[0][0] is row[1]
