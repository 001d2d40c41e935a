"""Images to the network's input on a device: what `preprocessing.place_cameras` does, as torch operations.

Every shape is fixed by the layout, so that the whole can be captured as a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.detection.preprocessing import PIXEL_MEAN, PIXEL_SPREAD, supersampling


@dataclass(frozen=True)
class BandShape:
    """The part of one camera's image that is uploaded, and what becomes of it.

    Attributes:
        height, width: of the band of the source, pixels.
        rows: of the network's image that it fills, from the top; the rest is padding.
    """

    height: int
    width: int
    rows: int


class BandScaling:
    """Bands of one shape, scaled and normalised together.

    Args:
        shape: of every band.
        slots: of the network's images that they go to, in order.
        width: of the network's image.
        device: where it is done.
    """

    def __init__(self, shape: BandShape, slots: tuple[int, ...], width: int, device: torch.device) -> None:
        self._rows, self._slots = shape.rows, slots
        self._multiple = supersampling(shape.width, width)
        self._vertical = _samples(shape.height, self._multiple * shape.rows, device)
        self._horizontal = _samples(shape.width, self._multiple * width, device)
        scale = 1.0 / (255.0 * PIXEL_SPREAD)
        self._scale = torch.tensor(scale, device=device)[:, None, None]
        self._shift = torch.tensor(PIXEL_MEAN / PIXEL_SPREAD, device=device)[:, None, None]

    def __call__(self, bands: Tensor, images: Tensor) -> None:
        """Bands (G, height, width, 3) uint8 into `images` (1, C, 3, H, W).

        On a CPU the images in between have 8 bits; here nothing is rounded: about half a grey level apart.
        """
        grey = _interpolated(_interpolated(bands, 1, *self._vertical), 2, *self._horizontal)
        planes = grey.permute(0, 3, 1, 2)
        if self._multiple > 1:
            planes = functional.avg_pool2d(planes, self._multiple)
        planes = planes * self._scale - self._shift
        for number, slot in enumerate(self._slots):
            images[0, slot, :, : self._rows].copy_(planes[number])


def _samples(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The two source rows of each target row, and the share of the second: pixel centres are mapped to each other."""
    place = (np.arange(target) + 0.5) * (source / target) - 0.5
    place = np.clip(place, 0, source - 1)
    first = np.floor(place).astype(np.int64)
    second = np.minimum(first + 1, source - 1)
    share = (place - first).astype(np.float32)
    return tuple(torch.tensor(values, device=device) for values in (first, second, share))  # type: ignore[return-value]


def _interpolated(values: Tensor, axis: int, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """(G, h, w, 3) with one axis sampled anew, float32."""
    weight = share.view([-1 if dimension == axis else 1 for dimension in range(4)])
    low, high = (values.index_select(axis, index).float() for index in (first, second))
    return low + (high - low) * weight
