"""The building block against PyTorch's own attention, and windows against indexing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from small_model import SMALL  # noqa: E402
from torch.nn import functional  # noqa: E402

from karp_perception.detection.model.block import MASKED, Attention, Block, ConvStem  # noqa: E402
from karp_perception.detection.model.detector_net import build  # noqa: E402
from karp_perception.detection.model.lidar_encoder import from_squares, from_windows, to_windows  # noqa: E402


def test_attention_equals_scaled_dot_product_attention() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4).eval()
    query, key, value = torch.randn(2, 7, 32), torch.randn(2, 11, 32), torch.randn(2, 11, 32)
    mask = torch.where(torch.rand(2, 1, 7, 11) < 0.3, MASKED, 0.0)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1, 4, 8).transpose(1, 2)

    expected = functional.scaled_dot_product_attention(
        heads(attention.query(query)), heads(attention.key(key)), heads(attention.value(value)), attn_mask=mask
    )
    expected = attention.output(expected.transpose(1, 2).reshape(2, 7, 32))
    got, weights = attention(query, key, value, mask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 7))


def test_attention_equals_multihead_attention_with_the_same_weights() -> None:
    torch.manual_seed(1)
    ours, theirs = Attention(32, 4).eval(), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    query, memory = torch.randn(3, 5, 32), torch.randn(3, 9, 32)
    got, weights = ours(query, memory, memory)
    expected, expected_weights = theirs(query, memory, memory, average_attn_weights=False)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-6)


def test_a_masked_key_gets_exactly_no_weight() -> None:
    torch.manual_seed(2)
    attention = Attention(16, 2).eval()
    x = 50 * torch.randn(1, 6, 16)
    mask = torch.tensor([0, 0, MASKED, 0, MASKED, 0]).reshape(1, 1, 1, 6)
    assert (attention(x, x, x, mask)[1][..., [2, 4]] == 0).all()


def test_block_is_the_pre_norm_transformer_layer_of_pytorch() -> None:
    torch.manual_seed(3)
    block = Block(32, 4, 2).eval()
    theirs = torch.nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    with torch.no_grad():
        own = block.attention
        theirs.self_attn.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
        theirs.self_attn.out_proj.load_state_dict(own.output.state_dict())
        theirs.linear1.load_state_dict(block.mlp[0].state_dict())
        theirs.linear2.load_state_dict(block.mlp[2].state_dict())
    x = torch.randn(2, 10, 32)
    torch.testing.assert_close(block(x)[0], theirs(x), rtol=1e-5, atol=1e-5)


def test_block_over_memory_sees_positions_in_keys_and_not_in_values() -> None:
    torch.manual_seed(4)
    block = Block(16, 2, 2).eval()
    x, memory = torch.randn(1, 3, 16), torch.randn(1, 1, 16)
    # With a single key its weight is 1 whatever its position: only a value could tell.
    near = block(x, None, memory, torch.zeros(1, 1, 16))[0]
    far = block(x, None, memory, 5 * torch.randn(1, 1, 16))[0]
    torch.testing.assert_close(near, far, rtol=0, atol=0)


@pytest.mark.parametrize("strided", [False, True])
def test_windows_hold_the_right_tokens_and_go_back(strided: bool) -> None:
    nx, ny, window = 8, 12, 4
    grid = torch.arange(2 * nx * ny).reshape(2, nx, ny, 1)
    windows = to_windows(grid, window, strided=strided)
    assert torch.equal(from_windows(windows, (nx, ny), window, strided=strided), grid)
    number = 0
    for b in range(2):
        for wx in range(nx // window):
            for wy in range(ny // window):
                if strided:
                    expected = grid[b, wx :: nx // window, wy :: ny // window]
                else:
                    expected = grid[b, wx * window : (wx + 1) * window, wy * window : (wy + 1) * window]
                assert torch.equal(windows[number], expected.reshape(-1, 1))
                number += 1
    assert number == len(windows)


def test_stem_halves_once_for_each_entry() -> None:
    assert ConvStem(5, (8, 16, 24), 1)(torch.zeros(2, 5, 32, 48)).shape == (2, 24, 4, 6)


def test_squares_are_laid_out_as_pixel_shuffle_lays_them_out() -> None:
    torch.manual_seed(6)
    coarse = torch.randn(2, 4 * 5, 3, 7)
    # torch counts the place within a square fastest, behind the channel.
    channel_first = coarse.reshape(2, 4, 5, 3, 7).transpose(1, 2).reshape(2, 20, 3, 7)
    expected = functional.pixel_shuffle(channel_first, 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(from_squares(coarse), expected, rtol=0, atol=0)


def test_context_adds_nothing_to_a_new_network_and_reaches_far_in_a_trained_one() -> None:
    net = build(SMALL, 1)
    context = net.lidar_encoder.context
    tokens = torch.rand(1, SMALL.width, *SMALL.canvas_tokens, requires_grad=True)
    assert (context(tokens) == 0).all()
    with torch.no_grad():
        context.back.weight.normal_()
        for pair in context.convolutions:
            pair.second[1].weight.fill_(1.0)
    context(tokens)[0, 8, 8].square().sum().backward()
    seen = tokens.grad.abs().sum(dim=(0, 1)) > 0
    reach = SMALL.token_m * torch.nonzero(seen[:, 8])[:, 0]
    assert float(reach.max() - reach.min()) > 18.0  # m: the longest vehicle


def test_a_new_residual_pair_is_the_identity_on_what_a_relu_gave() -> None:
    net = build(SMALL, 1)
    x = torch.rand(1, SMALL.width, 6, 6)
    torch.testing.assert_close(net.lidar_encoder.refine(x), x, rtol=0, atol=0)
