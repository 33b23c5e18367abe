"""One decision about threads for numba, BLAS and FFT together, made before any of them is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NUMBA_VARIABLE = "NUMBA_NUM_THREADS"
MOST_IN_FRONT = 8  # what a frame and sixteen particles have to share out
MOST_EXPANDING = 4  # three expand 400 frames of 1920 x 1792 px a second (5.4 ms each), and a core is theirs anyway
SPIN_VARIABLE, NO_SPIN = "OPENBLAS_THREAD_TIMEOUT", "4"


def available_cores() -> int:
    """Cores this process may use (its affinity mask, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def reconstruction_threads(threads: int | None) -> int:
    """Threads of the reconstruction: those asked for, or those of `NUMBA_NUM_THREADS`, or what there is.

    From four cores on, one is left to the receiver and one to the front end. With fewer the reconstruction uses all of
    them, at a lower priority than the other two.
    """
    given = os.environ.get(NUMBA_VARIABLE, "")
    if threads is None and given.isdigit() and int(given) > 0:
        threads = int(given)
    cores = available_cores()
    return threads or (cores - 2 if cores >= 4 else cores)


def expansion_threads(reconstruction: int | None) -> int:
    """Threads of the receiver that expand frames: two fifths of the cores that the reconstruction leaves, at least one.

    Expanding costs about what the front end does for a frame without particles, and each of these comes on top of that.
    With the defaults it is one, the receiver's only thread that is ever busy for long; with several, receiving and
    recording share their cores.

    Parameters
    ----------
    reconstruction : as for `front_end_threads`.
    """
    left = available_cores() - reconstruction_threads(reconstruction)
    return min(MOST_EXPANDING, max(1, (2 * left + 1) // 5))


def front_end_threads(reconstruction: int | None) -> int:
    """Threads of the front end: the cores that the reconstruction and the receiver leave over, at least one.

    With the defaults that is one. More particles than one core can follow want fewer threads of the reconstruction, or,
    where that has a GPU, hardly any.

    Parameters
    ----------
    reconstruction : threads of the reconstruction, all workers together; None: as many as it takes by default.
    """
    left = available_cores() - reconstruction_threads(reconstruction)
    return min(MOST_IN_FRONT, max(1, left - expansion_threads(reconstruction)))


def wait_asleep() -> None:
    """BLAS threads without work sleep, here and in processes begun from here.

    By default they turn in circles for some ten milliseconds after every matrix product, on a core that the compiled
    loops then miss: these ran no faster on two cores than on one. Read when the library is loaded.
    """
    os.environ.setdefault(SPIN_VARIABLE, NO_SPIN)


def size_thread_pools(threads: int | None) -> int:
    """Give every thread pool of this process and of its children the same size; returns that size.

    Libraries read the variables when they are imported, so this has to come first. What the operator has set in the
    environment stands unless `threads` is given. Pools that exist already are resized, numba's at most to what it was
    loaded with: it refuses to run when its variable has changed since.
    """
    wait_asleep()
    if threads is None:
        given = os.environ.get(NUMBA_VARIABLE, "")
        threads = int(given) if given.isdigit() and int(given) > 0 else available_cores()
        for name in VARIABLES:
            os.environ.setdefault(name, str(threads))
    else:
        for name in VARIABLES:
            os.environ[name] = str(threads)
    if "numba" not in sys.modules:
        os.environ[NUMBA_VARIABLE] = str(threads)
    else:
        threads = _resize_numba(threads)
    _limit_libraries(threads)
    return threads


@contextmanager
def as_begun(environment: Mapping[str, str]) -> Iterator[None]:
    """For what is begun meanwhile: the variables of thread pools as they were in `environment`."""
    now = {name: os.environ.get(name) for name in VARIABLES}
    _set_variables({name: environment.get(name) for name in VARIABLES})
    try:
        yield
    finally:
        _set_variables(now)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def single_threaded() -> None:
    """For all processes but the reconstruction's: their pools must not compete with its own.

    They use no compiled loop that runs in threads, so numba's pool, which is made at its first use, never exists.
    """
    for name in VARIABLES:
        os.environ[name] = "1"
    _limit_libraries(1)


def _resize_numba(threads: int) -> int:
    import numba

    largest = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads < largest:
        numba.set_num_threads(threads)
    return min(threads, largest)


def _limit_libraries(threads: int) -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
