"""Whether an engine says what the f32 reference says: measured before it is first used, and written down.

The result is kept beside the ONNX file it is about: only the first start on a machine pays for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)

QUANTITIES = ("probability", "center_m", "log_size", "yaw_rad", "velocity_mps", "log_variance")
"""What is compared of a network's outputs; `ParityLimits` says how much each may differ."""


@dataclass(frozen=True)
class ParityLimits:
    """Most that the answers of 95 % of the queries may be from the reference's; the others, four times that.

    The defaults, which are those of bfloat16, are well below what a detector itself is wrong by.

    Attributes:
        probability: of any class; thresholds are set in tenths.
        center_m: a quarter of a canvas cell; beyond 10 m, 1 % of the distance.
        log_size: 5 % of a length, 0.2 m of a car.
        yaw_rad: 3 degrees.
        velocity_mps: a fifth of a pedestrian's.
        log_variance: a tenth of a standard deviation.
        unmatched: share of queries without a partner.
        boxes_unmatched: share of decoded boxes without one.
        row: of a graph that has no queries: difference of an output's number over the largest of that output.
    """

    probability: float = 0.05
    center_m: float = 0.1
    log_size: float = 0.05
    yaw_rad: float = 0.05
    velocity_mps: float = 0.25
    log_variance: float = 0.2
    unmatched: float = 0.05
    boxes_unmatched: float = 0.02
    row: float = 0.002


_LIMITS = {
    "f32": ParityLimits(0.002, 0.005, 0.002, 0.005, 0.01, 0.01, 0.01, 0.005),
    "f16": ParityLimits(0.02, 0.05, 0.02, 0.03, 0.1, 0.1, 0.03, 0.01),
    "bf16": ParityLimits(center_m=0.2),
    "int8": ParityLimits(0.1, 0.3, 0.1, 0.1, 0.5, 0.4, 0.12, 0.12),
    "fp8": ParityLimits(0.1, 0.3, 0.1, 0.1, 0.5, 0.4, 0.12, 0.12),
}


def limits_of(precision: str) -> ParityLimits:
    """What is allowed in a precision: rounding, and no more."""
    return _LIMITS[precision]


@dataclass(frozen=True)
class Parity:
    """How far an engine's answers are from the reference's.

    Attributes:
        precision: the engine's.
        passed: whether they are within the limits.
        usual, worst: largest difference by quantity (by output for a graph without queries), of 95 % and of all queries
            that count.
        queries: compared (rows, for a graph without queries).
        unmatched: of them, those without a partner: candidates that near ties swap.
        boxes: decoded on either side at the usual threshold.
        boxes_unmatched: of them, those that the other side does not have, not even with a somewhat lower score.
        score, position_m: largest difference of matched boxes.
    """

    precision: str
    passed: bool
    usual: Mapping[str, float]
    worst: Mapping[str, float]
    queries: int
    unmatched: int = 0
    boxes: int = 0
    boxes_unmatched: int = 0
    score: float = 0.0
    position_m: float = 0.0

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {self.usual[name]:.3g} (worst {self.worst[name]:.3g})" for name in self.usual)
        text = f"{self.precision} against the reference in {self.queries} rows, {self.unmatched} unmatched: {figures}"
        if not self.boxes:
            return text
        return (
            f"{text}; of {self.boxes} boxes {self.boxes_unmatched} unmatched, "
            f"score {self.score:.3g}, position {self.position_m:.3g} m"
        )

    @classmethod
    def from_json(cls, text: str) -> Parity:
        """The result that `to_json` wrote. Raises ValueError for anything else."""
        try:
            parity = cls(**json.loads(text))
            figures = [float(value) for side in (parity.usual, parity.worst) for value in side.values()]
            figures += [float(parity.score), float(parity.position_m)]
            named = set(parity.usual) == set(parity.worst) != set()
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a parity result: {error}") from None
        whole = (parity.queries, parity.unmatched, parity.boxes, parity.boxes_unmatched)
        right = named and isinstance(parity.passed, bool) and isinstance(parity.precision, str)
        if not right or not all(isinstance(count, int) for count in whole) or any(math.isnan(f) for f in figures):
            raise ValueError("not a parity result")
        return parity

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self), indent=1)


def parity_record(onnx: Path, where: Sequence[str], limits: ParityLimits) -> Path:
    """The file that keeps what a check of an engine found.

    Args:
        onnx: the graph's file in f32; results are kept in its folder.
        where: backend, precision, library, version, device: all that decides how numbers are rounded.
        limits: that the result is judged by.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256("\n".join([hashlib.sha256(onnx.read_bytes()).hexdigest(), *where, repr(limits)]).encode())
    for source in ("references.py", "comparison.py", "typed_graph.py", "quantized_graph.py"):
        digest.update((here / source).read_bytes())
    return onnx.with_name(f"parity-{digest.hexdigest()[:24]}.json")


def earlier_parity(record: Path) -> Parity | None:
    """The result of an earlier check; None where there was none, or where it cannot be read, which is logged."""
    try:
        return Parity.from_json(record.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _LOG.warning("%s cannot be read (%s): the engine is compared again", record, error)
        return None


def checked_parity(record: Path, measure: Callable[[], Parity]) -> Parity:
    """The result of an earlier check, or a new one, which is kept."""
    parity = earlier_parity(record)
    if parity is not None:
        return parity
    parity = measure()
    draft = record.with_name(f".{record.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(parity.to_json())
        os.replace(draft, record)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): the engine is compared at every start", record, error)
        draft.unlink(missing_ok=True)
    return parity
