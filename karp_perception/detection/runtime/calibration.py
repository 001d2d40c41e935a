"""Ranges of activations, for graphs in 8 bits: measured on frames of the world by running the f32 graph.

For int8 the range is the one that changes the values least, rounding and clipping together (mean squared error over a
histogram): a few far outliers would otherwise cost all others a bit or two. Float8 has steps in proportion and takes
the largest value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from karp_perception.detection.runtime.quantized_graph import EightBits, quantized_activations

LEAST_SIGNAL_DB = 24.0
"""Activations with less signal over noise in int8 stay as they are.

An empty street is the same everywhere: what rounding does to it does not average out. In `nano` all but one lie above
25 dB; the one at 22 dB, behind the first convolution of the canvas, changes the boxes more than all others together.
"""

_BINS = 2048
_STEPS = 127
_SHARES = np.linspace(0.2, 1.0, 81)  # of the largest value: ranges that are tried


@dataclass
class Histogram:
    """Magnitudes of one activation so far: counts in bins from 0 to `top`."""

    top: float
    counts: np.ndarray

    @classmethod
    def empty(cls) -> Histogram:
        """Of nothing."""
        return cls(0.0, np.zeros(_BINS))

    def add(self, values: np.ndarray) -> None:
        """Count more values; where one is larger than all before, bins are joined until it fits."""
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if self.top == 0.0:
            self.top = largest
        while 0.0 < self.top < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2)])
            self.top *= 2
        if self.top > 0.0:
            self.counts += np.histogram(magnitudes, _BINS, (0.0, self.top))[0]

    @property
    def largest(self) -> float:
        """Upper end of the last bin with a value."""
        filled = np.flatnonzero(self.counts)
        return self.top * (filled[-1] + 1) / _BINS if len(filled) else 0.0

    def least_error(self) -> float:
        """The range that changes the values least in int8."""
        ends = _SHARES * self.largest
        return float(ends[int(np.argmin([self._error(end) for end in ends]))])

    def signal_to_noise_db(self) -> float:
        """Energy of the values over that of the error in int8, in decibels; infinite for zeros."""
        energy, error = float(self.counts @ self._middles**2), self._error(self.least_error())
        return 10 * np.log10(energy / error) if error > 0 else np.inf

    @property
    def _middles(self) -> np.ndarray:
        return (np.arange(_BINS) + 0.5) * (self.top / _BINS)

    def _error(self, end: float) -> float:
        """Sum of squared errors: rounding costs step^2 / 12 wherever values lie, clipping what lies beyond."""
        beyond = np.maximum(self._middles - end, 0.0)
        return float(self.counts @ np.where(beyond > 0, beyond**2, (end / _STEPS) ** 2 / 12))


@dataclass(frozen=True)
class Range:
    """What 8 bits hold of one activation.

    Attributes:
        end: largest magnitude that is told apart.
        mean, quantized_mean: (channels,) of the values as they are and after 8 bits; channels lie on axis 1.
    """

    end: float
    mean: np.ndarray
    quantized_mean: np.ndarray


def activation_ranges(
    model: onnx.ModelProto, format: EightBits, samples: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Range]:
    """Ranges of the activations that `quantized_graph` may bring to 8 bits, over samples of the graph's inputs.

    Left out are those of which 8 bits of equal steps would keep too little, see `LEAST_SIGNAL_DB`.
    """
    names = quantized_activations(model, format)
    values = _Values(model, names)
    histograms = {name: Histogram.empty() for name in names}
    for sample in samples:
        for name, value in values.of(sample).items():
            histograms[name].add(value)
    if format.uniform:
        ends = {n: h.least_error() for n, h in histograms.items() if h.signal_to_noise_db() >= LEAST_SIGNAL_DB}
    else:
        ends = {n: h.largest for n, h in histograms.items()}
    means: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in ends}
    for sample in samples:
        for name, value in values.of(sample).items():
            if name in ends:
                others = tuple(axis for axis in range(value.ndim) if axis != 1)
                through = format.through(value, format.scale(ends[name]))
                means[name].append(tuple(each.mean(axis=others, dtype=np.float64) for each in (value, through)))
    return {name: Range(end, *np.mean(means[name], axis=0)) for name, end in ends.items()}


class _Values:
    """Runs a graph for values within it."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        import onnxruntime

        told = onnx.ModelProto()
        told.CopyFrom(model)
        there = {output.name for output in told.graph.output}
        told.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in names
            if name not in there
        )
        self._names = list(names)
        self._session = onnxruntime.InferenceSession(told.SerializeToString(), providers=["CPUExecutionProvider"])

    def of(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By name, for one sample of the graph's inputs."""
        return dict(zip(self._names, self._session.run(self._names, dict(sample)), strict=True))
