"""Attention in float64 against PyTorch's functional and module forms and against its definition: values, gradients."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from karp_perception.detection.model.block import MASKED, Attention, Block  # noqa: E402

BATCH, QUERIES, KEYS, WIDTH, HEADS = 2, 5, 9, 24, 3
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(seed: int = 0) -> list[Tensor]:
    """Query, key and value in float64 that gradients are asked of."""
    shapes = ((BATCH, QUERIES, WIDTH), (BATCH, KEYS, WIDTH), (BATCH, KEYS, WIDTH))
    random = generator(seed)
    return [torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]


def module(training: bool, seed: int = 1) -> Attention:
    attention = Attention(WIDTH, HEADS).double().train(training)
    random = generator(seed)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
    return attention


def hidden(kind: str) -> Tensor | None:
    """Which keys are hidden, True: by the shapes that the network uses. No query is left without any key."""
    random = generator(2)
    if kind == "none":
        return None
    if kind == "keys":  # a sensor that is missing in one frame of the batch
        mask = torch.zeros(BATCH, 1, 1, KEYS, dtype=torch.bool)
        mask[1, ..., 3:7] = True
        return mask
    if kind == "pairs":  # groups of queries that must not see each other
        mask = torch.rand(1, 1, QUERIES, KEYS, generator=random) < 0.5
    else:
        mask = torch.rand(BATCH, HEADS, QUERIES, KEYS, generator=random) < 0.5
    mask[..., 0] = False
    return mask


def added(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.double() * MASKED


def gradients(output: Tensor, of: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(output.shape, generator=generator(3), dtype=torch.float64)
    return list(torch.autograd.grad((weights * output).sum(), of))


KINDS = ["none", "keys", "pairs", "heads"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_scaled_dot_product_attention(kind: str, training: bool) -> None:
    attention, mask = module(training), hidden(kind)
    ours, theirs = inputs(), inputs()

    def heads(x: Tensor) -> Tensor:
        return x.reshape(BATCH, -1, HEADS, WIDTH // HEADS).transpose(1, 2)

    projections = (attention.query, attention.key, attention.value)
    split = [heads(project(x)) for project, x in zip(projections, theirs, strict=True)]
    gathered = functional.scaled_dot_product_attention(*split, attn_mask=None if mask is None else ~mask)
    expected = attention.output(gathered.transpose(1, 2).reshape(BATCH, QUERIES, WIDTH))
    got, _ = attention(*ours, added(mask))
    torch.testing.assert_close(got, expected, **TIGHT)
    parameters = list(attention.parameters())
    for one, other in zip(gradients(got, ours + parameters), gradients(expected, theirs + parameters), strict=True):
        torch.testing.assert_close(one, other, **TIGHT)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_multihead_attention_with_the_same_weights(kind: str, training: bool) -> None:
    ours, mask = module(training), hidden(kind)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    projections = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    whole = None if mask is None else mask.expand(BATCH, HEADS, QUERIES, KEYS).flatten(0, 1)
    arguments, same = inputs(), inputs()
    got, weights = ours(*arguments, added(mask))
    expected, expected_weights = theirs(*same, attn_mask=whole, average_attn_weights=False)
    torch.testing.assert_close(got, expected, **TIGHT)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights, **TIGHT)
    else:
        assert training

    own = [*arguments, *(p.weight for p in projections), *(p.bias for p in projections), *ours.output.parameters()]
    found = gradients(got, own)
    packed = gradients(expected, [*same, theirs.in_proj_weight, theirs.in_proj_bias, *theirs.out_proj.parameters()])
    torch.testing.assert_close(found[:3], packed[:3], **TIGHT)
    torch.testing.assert_close(torch.cat(found[3:6]), packed[3], **TIGHT)
    torch.testing.assert_close(torch.cat(found[6:9]), packed[4], **TIGHT)
    torch.testing.assert_close(found[9:], packed[5:], **TIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_definition_written_as_loops(kind: str) -> None:
    """Vaswani et al., 2017, equation 1 and section 3.2.2, head by head and query by query."""
    attention, mask = module(False), hidden(kind)
    query, key, value = (x.detach() for x in inputs())
    seen = torch.ones(BATCH, HEADS, QUERIES, KEYS, dtype=torch.bool)
    if mask is not None:
        seen = ~mask.expand_as(seen)
    size = WIDTH // HEADS
    with torch.no_grad():
        got, weights = attention(query, key, value, added(mask))
        assert weights is not None
        q, k, v = attention.query(query), attention.key(key), attention.value(value)
        for b in range(BATCH):
            for i in range(QUERIES):
                heads = []
                for h in range(HEADS):
                    part = slice(h * size, (h + 1) * size)
                    keys = [j for j in range(KEYS) if seen[b, h, i, j]]
                    e = [math.exp(float(q[b, i, part] @ k[b, j, part]) / math.sqrt(size)) for j in keys]
                    heads.append(sum(x / sum(e) * v[b, j, part] for x, j in zip(e, keys, strict=True)))
                    for x, j in zip(e, keys, strict=True):
                        assert float(weights[b, h, i, j]) == pytest.approx(x / sum(e), rel=1e-9)
                    assert (weights[b, h, i][~seen[b, h, i]] == 0).all()
                torch.testing.assert_close(got[b, i], attention.output(torch.cat(heads)), **TIGHT)


@pytest.mark.parametrize("training", [False, True])
def test_a_query_whose_keys_are_all_hidden_attends_to_all_alike(training: bool) -> None:
    """A finite mask: no NaN reaches the answers of what else is in the batch."""
    attention = module(training)
    query, key, value = inputs()
    # float32: in float64 the differences of scores are not lost beside the mask.
    attention = attention.float()
    query, key, value = (0.01 * x.detach().float() for x in (query, key, value))
    got, _ = attention(query, key, value, torch.full((BATCH, 1, 1, KEYS), MASKED))
    expected = attention.output(attention.value(value).mean(dim=1, keepdim=True)).expand_as(got)
    torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_analytic_gradients_of_a_block_are_those_of_differences(training: bool) -> None:
    torch.manual_seed(4)
    block = Block(8, 2, 2).double().train(training)
    shapes = ((1, 3, 8), (1, 3, 8), (1, 4, 8), (1, 4, 8), (1, 1, 3, 4))
    x, position, memory, memory_position, mask = (
        torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in shapes
    )
    assert torch.autograd.gradcheck(
        lambda *a: block(*a)[0], (x, position, memory, memory_position, mask), fast_mode=True
    )
    own_mask = torch.randn(1, 1, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p, m: block(x, p, mask=m)[0], (x, position, own_mask), fast_mode=True)
