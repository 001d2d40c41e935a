"""Which tokens a query's answer rests on: its attention, put together from layers and heads in one of several ways.

Attention says where a query looked; whether what it saw there mattered is another question. `METHODS` therefore go from
the plain weights to the derivative of the answer, and `evaluation.perturbation` measures which of them tells the truth:
hide the tokens that it names, and see how much of the score is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from karp_perception.detection.model.block import MASKED
from karp_perception.detection.model.detector_net import DetectorNet, Prediction, Tokens

METHODS = ("last", "mean", "values", "rollout", "gradient")
"""Ways to attribute an answer to tokens, see `attribute`."""

_INPUTS = ("images", "camera_present", "canvas", "lidar_present")
_TOGETHER = 8  # decoders that run as one batch: more only take more memory


@dataclass
class Encoded:
    """One frame, up to where the decoder begins.

    Attributes:
        tokens: what queries attend to, batch of one.
        queries, position, reference, mask: see `DetectorNet.queries`.
    """

    tokens: Tokens
    queries: Tensor
    position: Tensor
    reference: Tensor
    mask: Tensor


@torch.no_grad()
def encode(net: DetectorNet, arrays: Mapping[str, np.ndarray], calibration: Mapping[str, np.ndarray]) -> Encoded:
    """Tokens and queries of one frame; arguments as `preprocessing.network_arrays` gives them (batch of one)."""
    images, cameras, canvas, lidar = (torch.from_numpy(np.array(arrays[name])) for name in _INPUTS)
    names = ("intrinsics", "T_base_camera", "camera_present")
    image, place, reference, ray = net.position(*(torch.from_numpy(np.array(calibration[name])) for name in names))
    tokens = net.encode(images, cameras, canvas, lidar, image, place)
    return Encoded(tokens, *net.queries(tokens, lidar, reference, ray))


@torch.no_grad()
def predict(net: DetectorNet, encoded: Encoded) -> Prediction:
    """What the heads say, as from `DetectorNet.forward`."""
    return _predict(net, encoded)


@torch.no_grad()
def predict_without(net: DetectorNet, encoded: Encoded, hidden: np.ndarray) -> list[Prediction]:
    """What the heads say where no query can attend to the tokens that are True in a row of `hidden` (V, M).

    The queries themselves stay as they are, also those that began as one of the hidden lidar tokens. The V answers
    come in order, in several batches.
    """
    added = torch.from_numpy(hidden).float() * MASKED
    return [_predict(net, _repeated(encoded, rows)) for rows in added.split(_TOGETHER)]


def attribute(net: DetectorNet, encoded: Encoded, rows: Sequence[int], labels: Sequence[int], method: str) -> Tensor:
    """How much each token counts for the answers of some queries.

    Args:
        net: in evaluation mode.
        encoded: the frame.
        rows: of the queries.
        labels: the class that each answered with (used by `gradient` alone).
        method: "last": weights of the last decoder layer, mean over heads. "mean": mean over layers as well.
            "values": each weight times the length of what it lets through, |W_output W_value x| of its head (Kobayashi
            et al., 2020), mean over layers. "rollout": weights followed through the layers, also by way of other
            queries, with half of everything staying where it is (Abnar and Zuidema, 2020; for decoders Chefer et al.,
            2021). "gradient": the derivative of the answer's logit by what is added to the token's attention scores,
            in all layers, heads and queries at once; the positive part: what spoke for the answer.

    Returns:
        (len(rows), M), of which each row sums to 1; zeros where nothing counts.
    """
    if len(rows) == 0:
        return torch.zeros(0, encoded.tokens.memory.shape[1])
    if method == "gradient":
        found = _gradient(net, encoded, rows, labels)
    else:
        with torch.no_grad():
            found = _FORWARD[method](net, encoded)[list(rows)]
    return found / found.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def _predict(net: DetectorNet, encoded: Encoded) -> Prediction:
    last = net.decode(encoded.tokens, encoded.queries, encoded.position, encoded.mask)[-1][0]
    return net.answers(encoded.tokens, last, encoded.reference, encoded.mask)


def _repeated(encoded: Encoded, added: Tensor) -> Encoded:
    """The frame once for each row of `added` (V, M), which is added to the tokens' mask."""
    tokens, count = encoded.tokens, len(added)
    several = replace(
        tokens,
        memory=tokens.memory.expand(count, -1, -1),
        position=tokens.position.expand(count, -1, -1),
        mask=tokens.mask + added[:, None, None, :],
    )
    queries, position = encoded.queries.expand(count, -1, -1), encoded.position.expand(count, -1, -1)
    return Encoded(several, queries, position, encoded.reference, encoded.mask)


def _weights(net: DetectorNet, encoded: Encoded) -> list[Tensor]:
    """(heads, N, M) of each layer."""
    layers = net.decode(encoded.tokens, encoded.queries, encoded.position, encoded.mask)
    return [weights[0] for _, weights in layers]


def _last(net: DetectorNet, encoded: Encoded) -> Tensor:
    return _weights(net, encoded)[-1].mean(dim=0)


def _mean(net: DetectorNet, encoded: Encoded) -> Tensor:
    return torch.stack(_weights(net, encoded)).mean(dim=(0, 1))


def _values(net: DetectorNet, encoded: Encoded) -> Tensor:
    """(N, M) weights times the lengths of the values that they let through."""
    total = torch.zeros(())
    for layer, weights in zip(net.layers, _weights(net, encoded), strict=True):
        attention = layer.to_tokens.attention
        values = attention.value(encoded.tokens.memory[0]).unflatten(-1, (attention.heads, -1))
        output = attention.output.weight.unflatten(1, (attention.heads, -1))
        length = torch.einsum("mhd,ohd->hmo", values, output).norm(dim=-1)
        through = (weights * length[:, None, :]).sum(dim=0)
        total = total + through / through.sum(dim=-1, keepdim=True)
    return total


def _rollout(net: DetectorNet, encoded: Encoded) -> Tensor:
    """(N, M): how much of each query comes from each token, by the weights alone."""
    tokens, x = encoded.tokens, encoded.queries
    from_tokens = x.new_zeros(x.shape[1], tokens.memory.shape[1])
    for layer in net.layers:
        x, among = layer.among_queries(x, encoded.position, mask=encoded.mask)
        x, weights = layer.to_tokens(x, encoded.position, tokens.memory, tokens.position, tokens.mask)
        from_tokens = 0.5 * from_tokens + 0.5 * among[0].mean(dim=0) @ from_tokens
        from_tokens = 0.5 * from_tokens + 0.5 * weights[0].mean(dim=0)
    return from_tokens


def _gradient(net: DetectorNet, encoded: Encoded, rows: Sequence[int], labels: Sequence[int]) -> Tensor:
    parts = []
    for some in torch.arange(len(rows)).split(_TOGETHER):
        added = torch.zeros(len(some), encoded.tokens.memory.shape[1], requires_grad=True)
        logits = _predict(net, _repeated(encoded, added)).logits
        chosen = torch.tensor(rows)[some], torch.tensor(labels)[some]
        answers = logits[torch.arange(len(some)), chosen[0], chosen[1]]
        # Rows of the batch do not touch each other: the sum's derivative is each one's own.
        parts.append(torch.autograd.grad(answers.sum(), added)[0])
    return torch.cat(parts).clamp(min=0.0)


_FORWARD = {"last": _last, "mean": _mean, "values": _values, "rollout": _rollout}
