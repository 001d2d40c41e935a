"""What the doctor finds, and from where on it speaks."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
"""The worst first."""


@dataclass(frozen=True)
class DoctorLimits:
    """From where on something is worth a line."""

    lost_fraction: float = 0.03  # of a topic's messages, by its period
    gap_periods: float = 3.0  # a pause of so many periods
    jitter_fraction: float = 0.35  # of the period, half the range between the 10th and the 90th percentile
    log_offset_s: float = 1.0  # between stamps and log times
    camera_offset_fraction: float = 0.25  # of the lidar's period, between a camera and the lidar
    upward: float = 0.85  # cosine: a camera that looks up so steeply is a frame that is not optical
    transforms: int = 5000  # messages of /tf that are read


@dataclass(frozen=True)
class Finding:
    """One fault: how bad it is, what it is about, what is wrong and what to do."""

    severity: str
    subject: str
    problem: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.severity}: {self.subject}: {self.problem}"
        return " ".join((f"{line}; {self.advice}" if self.advice else line).split())
