"""Memory that was freed is kept for the next message or map, not given back to the system and asked for again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 256 << 20
_LARGEST_BYTES = 32 << 20  # the most glibc takes; larger blocks are mapped one by one as ever


def keep_freed_memory() -> bool:
    """For a process whose messages come and go thousands of times a second, or whose volumes are made anew with every
    map; returns whether the C library does it.

    glibc unmaps what is freed at the end of its heap as soon as that is 128 KiB, so that in every second message pages
    have to be made and zeroed again: a tenth of what a reconstruction took on a virtual machine. At most 256 MiB for
    each heap stay with the process now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES))
