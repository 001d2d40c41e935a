"""What an NVIDIA GPU tells of itself by nvidia-smi, where there is one: memory and power."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from types import TracebackType

_PERIOD_MS = 100
_PATIENCE_S = 10.0


def gpu_memory_mib(pid: int | None = None) -> float | None:
    """Memory of the GPU that a process (this one by default) holds, MiB; None where nobody can tell."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    wanted = os.getpid() if pid is None else pid
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_PATIENCE_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = [_numbers(line) for line in answer.splitlines()]
    held = [values[1] for values in found if len(values) == 2 and values[0] == wanted]
    return sum(held) if held else None


@dataclass
class PowerMeter:
    """Samples the power that the first GPU draws while a `with` block runs; measures nothing where there is none.

    Attributes:
        watts: samples, W.
    """

    watts: list[float] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None

    def __enter__(self) -> PowerMeter:
        if shutil.which("nvidia-smi") is not None:
            query = ["nvidia-smi", "-i", "0", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                [*query, "-lms", str(_PERIOD_MS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._process is not None and self._reader is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE_S)
            self._reader.join(_PATIENCE_S)

    @property
    def mean_w(self) -> float | None:
        """Mean of the samples, W; None without any: some GPUs do not tell."""
        return round(sum(self.watts) / len(self.watts), 1) if self.watts else None

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.watts += _numbers(line)


def _numbers(line: str) -> list[float]:
    """The comma-separated numbers of a line; nothing for words such as [N/A]."""
    try:
        return [float(part) for part in line.split(",")]
    except ValueError:
        return []
