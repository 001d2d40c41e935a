"""The network's outputs to boxes on a device: what `decoding.decode` does, as torch operations on fixed shapes.

The device gives a table of the best queries, the host cuts it off where the score says so: one small copy a frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from karp_perception.core import Boxes
from karp_perception.detection.decoding import LOG_SIZE, LOG_VARIANCE, MAX_POSITION_M, MAX_SPEED, NEVER, best_rows

COLUMNS = 21
"""Of the table: whether the query counts, score, label, centre 3, size 3, yaw, velocity 2, variance 9."""


def best_queries(outputs: Mapping[str, Tensor]) -> Tensor:
    """The queries of a batch of one, best first, as boxes.

    Args:
        outputs: of N queries, by name as in `Prediction`.

    Returns:
        (N, COLUMNS) float64, by falling score; of equal ones in the queries' order.
    """
    logits = outputs["logits"][0].double()
    finite = torch.stack([torch.isfinite(values[0]).all(dim=-1) for values in outputs.values()]).all(dim=0)
    logits = torch.where(finite[:, None], logits, NEVER)
    best = logits.amax(dim=1).clamp(NEVER, -NEVER)
    order = torch.sort(torch.sigmoid(best), descending=True, stable=True)
    rows = order.indices

    def of(name: str) -> Tensor:
        return outputs[name][0].index_select(0, rows).double()

    size = of("log_size").clamp(*LOG_SIZE).exp()
    direction = of("direction")
    variance = of("log_variance").clamp(*LOG_VARIANCE).exp()
    columns = [
        (best.index_select(0, rows) > NEVER).double()[:, None],
        order.values[:, None],
        logits.index_select(0, rows).argmax(dim=1).double()[:, None],
        of("center").clamp(-MAX_POSITION_M, MAX_POSITION_M),
        size,
        torch.atan2(direction[:, :1], direction[:, 1:]),
        of("velocity").clamp(-MAX_SPEED, MAX_SPEED),
        # The network speaks of log sizes: d(size) = size * d(log size).
        torch.cat([variance[:, :3], variance[:, 3:6] * size**2, variance[:, 6:]], dim=1),
    ]
    return torch.cat(columns, dim=1)


def boxes_of(table: np.ndarray, score_threshold: float, max_detections: int) -> Boxes:
    """The rows (N, COLUMNS) of `best_queries` that count and reach the threshold, as boxes of the caller's own."""
    table = table[table[:, 0] > 0]
    if len(table) == 0:
        return Boxes.empty()
    boxes = Boxes(
        center=table[:, 3:6],
        size=table[:, 6:9],
        yaw=table[:, 9],
        velocity=table[:, 10:12],
        label=table[:, 2].astype(np.int64),
        score=table[:, 1],
        variance=table[:, 12:21],
    )
    return boxes[best_rows(boxes, score_threshold, max_detections)]
