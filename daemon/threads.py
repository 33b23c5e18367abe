"""One decision about threads for numba, BLAS and FFT together, made before any of them is imported."""

from __future__ import annotations

import os

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Cores this process may use (its affinity mask, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def size_thread_pools(threads: int | None) -> int:
    """Give every thread pool of this process and of its children the same size; returns that size.

    Libraries read the variables when they are imported, so this has to come first. What the operator has set in the
    environment stands unless `threads` is given. Pools that exist already are resized through threadpoolctl.
    """
    if threads is None:
        given = os.environ.get(VARIABLES[0], "")
        threads = int(given) if given.isdigit() and int(given) > 0 else available_cores()
        for name in VARIABLES:
            os.environ.setdefault(name, str(threads))
    else:
        for name in VARIABLES:
            os.environ[name] = str(threads)
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    return threads


def single_threaded() -> None:
    """For helper processes (receiver, publisher): their pools must not compete with the reconstruction's."""
    size_thread_pools(1)
