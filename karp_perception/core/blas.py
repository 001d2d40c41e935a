"""Keeps linear algebra on one thread in our processes."""

from __future__ import annotations

import threadpoolctl


def use_one_blas_thread() -> None:
    """Limit numpy's and scipy's BLAS to the calling threads, for the whole process.

    Our matrices are small, and our own threads keep all cores busy: a BLAS that splits a product of 100,000 points
    among its threads waits for one of them to get a core, and a third of a millisecond becomes sixty. For entry points
    of processes; a library must not decide this for the program that imports it.
    """
    threadpoolctl.threadpool_limits(limits=1, user_api="blas")
