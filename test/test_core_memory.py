"""Kept memory: measured by the page faults that it saves."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from karp_perception.core import memory

FAULTS = """
import resource, sys
import numpy as np
from karp_perception.core.memory import keep_freed_memory
kept = sys.argv[1] == "kept"
assert not kept or keep_freed_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_block_that_was_freed_is_not_fetched_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    # 128 MiB are 64 huge pages or 32,768 small ones.
    assert faults("kept") < 0.1 * faults("given back")


def test_where_there_is_no_mallopt_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Other())
    assert memory.keep_freed_memory() is False
