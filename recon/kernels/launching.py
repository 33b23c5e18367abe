"""Starting CUDA kernels on arrays of cupy, and of numpy for tests. Importing needs no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # the last batch of a stream may be small; that is no news to an operator
SIMULATED = bool(cuda.config.ENABLE_CUDASIM)


def array_module(array: Any) -> Any:
    """The array library of an argument: numpy, else cupy."""
    if isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy


def _view(argument: Any) -> Any:
    """What a kernel takes for an array of cupy; used on cupy's own stream, so that nothing has to be waited for."""
    return cuda.as_cuda_array(argument, sync=False) if hasattr(argument, "__cuda_array_interface__") else argument


def launch(
    kernel: Any, blocks: int, threads: int, arguments: tuple[Any, ...], changed: tuple[Any, ...], shared_bytes: int = 0
) -> None:
    """Start a kernel on cupy's current stream. Numpy arrays go to the device and, those in `changed`, come back.

    `shared_bytes` is the memory that a block's threads share, beside what the kernel declares itself.
    """
    stream: Any = 0
    if not isinstance(changed[0], np.ndarray):
        pointer = array_module(changed[0]).cuda.get_current_stream().ptr
        stream = cuda.external_stream(pointer) if pointer else 0
    copies = {id(a): cuda.to_device(a) for a in arguments if isinstance(a, np.ndarray)}
    kernel[blocks, threads, stream, shared_bytes](*(copies[id(a)] if id(a) in copies else _view(a) for a in arguments))
    for array in changed:
        if id(array) in copies:
            copies[id(array)].copy_to_host(array)
