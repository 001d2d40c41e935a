"""What is measured, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from karp_perception.bench.engines import TORCH_COMPILE, TORCH_EAGER, EngineName
from karp_perception.bench.frames import WORLD
from karp_perception.core import ConfigurationError
from karp_perception.detection.runtime.backend import AUTO
from karp_perception.detection.runtime.gpus import gpus

RIGS = {1: "demo", 6: "surround"}
"""The world's sensors for so many cameras, where none are named: one ahead, or a ring."""


@dataclass(frozen=True)
class BenchOptions:
    """Options of a measurement.

    Attributes:
        model: shipped name or file.
        backends, precisions: every combination is measured; "auto" is what a user gets who asks for nothing.
        against: what those are compared with, as backend or backend:precision (f32 where none is named); None: torch
            eager, torch.compile and ONNX Runtime, on a GPU torch eager and torch.compile in f16 there.
        input: "world", "noise", or a folder with frame.json.
        rig: the world's sensors; None: as many cameras as the model takes.
        cameras: most of them that are used; 0: all that model and input have.
        points: of a sweep; 0: what the lidar gives.
        compressed: images come as JPEG.
        rates_hz: at which frames are fed in real time; none: not measured.
        seconds: for each of these.
        repeat: frames that are timed, all engines taking turns.
        threads: of the CPU; 0: all.
        memory: measure each engine in a fresh process as well.
        accuracy: held-out frames of the world that each engine is evaluated on; 0: none.
        out: folder for bench.json and latency.png.
    """

    model: str = "nano"
    backends: tuple[str, ...] = (AUTO,)
    precisions: tuple[str, ...] = (AUTO, "f32")
    against: tuple[str, ...] | None = None
    input: str = WORLD
    rig: str | None = None
    cameras: int = 0
    points: int = 0
    compressed: bool = False
    rates_hz: tuple[float, ...] = (10.0, 20.0)
    seconds: float = 5.0
    repeat: int = 60
    threads: int = 0
    memory: bool = True
    accuracy: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (("repeat", 2), ("cameras", 0), ("points", 0), ("threads", 0), ("accuracy", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.seconds <= 0 or any(rate <= 0 for rate in self.rates_hz):
            raise ConfigurationError(
                f"rates and seconds: expected more than 0, got {self.rates_hz} Hz and {self.seconds} s"
            )

    def compared(self) -> list[EngineName]:
        """What the engines are compared with."""
        against = self.against
        if against is None:
            on_gpu = (TORCH_EAGER, f"{TORCH_COMPILE}:f16")
            against = on_gpu if gpus() else (TORCH_EAGER, TORCH_COMPILE, "onnxruntime")
        parts = (name.partition(":") for name in against)
        return [EngineName(backend, precision or "f32") for backend, _, precision in parts]

    def device(self) -> str:
        """Where torch runs."""
        return "cuda" if gpus() else "cpu"
