"""Whether a network says the same in another precision: measured before that precision is used, and written down.

The result is kept beside the ONNX file it is about: only the first start on a machine pays for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)

QUANTITIES = ("probability", "center_m", "log_size", "yaw_rad", "velocity_mps", "log_variance")
"""What is compared; `ParityLimits` says how much each may differ."""


@dataclass(frozen=True)
class ParityLimits:
    """Most that the answers of 95 % of the queries may change with the precision; the others, four times that.

    Each is well below what a detector itself is wrong by.

    Attributes:
        probability: of any class; thresholds are set in tenths.
        center_m: a quarter of a canvas cell; beyond 10 m, 1 % of the distance.
        log_size: 5 % of a length, 0.2 m of a car.
        yaw_rad: 3 degrees.
        velocity_mps: a fifth of a pedestrian's.
        log_variance: a tenth of a standard deviation.
        unmatched: share of queries without a partner.
    """

    probability: float = 0.05
    center_m: float = 0.1
    log_size: float = 0.05
    yaw_rad: float = 0.05
    velocity_mps: float = 0.25
    log_variance: float = 0.2
    unmatched: float = 0.05


@dataclass(frozen=True)
class Parity:
    """How far a network's answers in another precision are from those in f32.

    Attributes:
        precision: the other one.
        passed: whether they are within the limits.
        usual, worst: largest difference by quantity, of 95 % and of all queries that count.
        queries: compared.
        unmatched: of them, those without a partner: candidates that near ties swap.
    """

    precision: str
    passed: bool
    usual: Mapping[str, float]
    worst: Mapping[str, float]
    queries: int
    unmatched: int

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {self.usual[name]:.3g} (worst {self.worst[name]:.3g})" for name in self.usual)
        return f"{self.precision} against f32 in {self.queries} queries, {self.unmatched} unmatched: {figures}"

    @classmethod
    def from_json(cls, text: str) -> Parity:
        """The result that `to_json` wrote. Raises ValueError for anything else."""
        try:
            parity = cls(**json.loads(text))
            figures = [float(side[name]) for side in (parity.usual, parity.worst) for name in QUANTITIES]
            whole = [parity.queries, parity.unmatched]
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a parity result: {error}") from None
        right = isinstance(parity.passed, bool) and isinstance(parity.precision, str)
        if not right or not all(isinstance(count, int) for count in whole) or any(math.isnan(f) for f in figures):
            raise ValueError("not a parity result")
        return parity

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self), indent=1)


def checked_parity(onnx: Path, where: str, limits: ParityLimits, measure: Callable[[], Parity]) -> Parity:
    """The result of an earlier check of the same file, in the same place and by the same rules, or a new one.

    Args:
        onnx: the network's file; results are kept in its folder.
        where: library, its version and the CPU: all that decides how numbers are rounded.
        limits: that the result is judged by.
        measure: makes a new result.
    """
    here = Path(__file__).parent
    parts = [hashlib.sha256(onnx.read_bytes()).hexdigest(), where, repr(limits)]
    digest = hashlib.sha256("\n".join(parts).encode())
    for source in ("street.py", "comparison.py"):
        digest.update((here / source).read_bytes())
    record = onnx.with_name(f"parity-{digest.hexdigest()[:24]}.json")
    try:
        return Parity.from_json(record.read_text())
    except FileNotFoundError:
        pass  # the first start
    except (OSError, ValueError) as error:
        _LOG.warning("%s cannot be read (%s): precisions are compared again", record, error)
    parity = measure()
    draft = record.with_name(f".{record.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(parity.to_json())
        os.replace(draft, record)
    except OSError as error:
        _LOG.warning("%s cannot be written (%s): precisions are compared at every start", record, error)
        draft.unlink(missing_ok=True)
    return parity
