"""The C library's memory: what is freed can be kept for what comes next."""

from __future__ import annotations

import ctypes
import logging

_LOG = logging.getLogger(__name__)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_KEPT, _AT_A_TIME = 2**31 - 1, 2**28


def keep_freed_memory() -> bool:
    """Let large blocks that are freed be used again instead of giving them back to the system each time.

    For programs that need the same large arrays over and over, as a training on CPUs does: fetching them anew, page by
    page, takes an eighth of its time. The process keeps its largest size from then on. Only glibc can do this; False,
    with a line in the log, where it is not the C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError) as error:
        _LOG.info("freed memory goes back to the system at once: no mallopt here (%s)", error)
        return False
    chosen = [(_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _AT_A_TIME), (_MMAP_THRESHOLD, _KEPT)]
    return all(mallopt(option, value) == 1 for option, value in chosen)
