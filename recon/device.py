"""Where arrays live and which kernels work on them: a value that is passed in, never a global."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

NO_MEMORY_WORDS = ("out of memory", "alloc failed", "memoryallocation")  # of the driver, cuBLAS, cuFFT; the runtime
ALIGNED = 16  # bytes, of arrays that share a copy: the largest type


@dataclass(frozen=True, slots=True)
class Device:
    """Array module, FFTs and kernel launchers of one processor.

    Attributes
    ----------
    name : "cpu" or "cuda:0".
    xp : numpy or cupy.
    kernels : module with the launchers of `recon.kernels` (`cpu` or `cuda`); those for frames are in its `pixels`.
    threads : of FFTs and of `each`, on the CPU.
    """

    name: str
    xp: Any
    kernels: ModuleType
    threads: int = 1

    def each(self, work: Callable[[Device, Any], Any], items: Sequence[Any]) -> list[Any]:
        """``[work(device, item) for item in items]``, on the CPU several at once with one thread each.

        For array work: the compiled loops of `kernels` have threads of their own and may not be begun from several.
        """
        if self.xp is not np or self.threads < 2 or len(items) < 2:
            return [work(self, item) for item in items]
        alone = replace(self, threads=1)
        return list(_pool(self.threads).map(lambda item: work(alone, item), items))

    def begin(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Begin `work` in one of the threads that `each` has; what comes back waits for it, and gives what it gave.

        With one thread, and on a GPU, it is done at once.
        """
        if self.xp is not np or self.threads < 2:
            done = work()
            return lambda: done
        return _pool(self.threads).submit(work).result

    def shares(self, length: int) -> list[slice]:
        """A length in even parts, one for each thread that `each` has; on a GPU the whole."""
        parts = min(self.threads, length) if self.xp is np else 1
        return [slice(length * i // parts, length * (i + 1) // parts) for i in range(parts)]

    def rfftn(self, array: Any) -> Any:
        """Real to complex transform over all axes, in the precision of the input."""
        if self.xp is np:
            return scipy.fft.rfftn(array, workers=self.threads)
        return self.xp.fft.rfftn(array).astype(self.xp.complex64, copy=False)

    def irfftn(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Inverse of `rfftn`."""
        if self.xp is np:
            return scipy.fft.irfftn(array, s=shape, workers=self.threads)
        return self.xp.fft.irfftn(array, s=shape, axes=tuple(range(len(shape)))).astype(self.xp.float32, copy=False)

    def fft(self, array: Any, axis: int) -> Any:
        """Complex transform along one axis; the input may be overwritten."""
        if self.xp is np:
            return scipy.fft.fft(array, axis=axis, workers=self.threads, overwrite_x=True)
        return self.xp.fft.fft(array, axis=axis)

    def ifft(self, array: Any, axis: int) -> Any:
        """Inverse of `fft`; the input may be overwritten."""
        if self.xp is np:
            return scipy.fft.ifft(array, axis=axis, workers=self.threads, overwrite_x=True)
        return self.xp.fft.ifft(array, axis=axis)

    def rfft(self, array: Any, axis: int) -> Any:
        """Real to complex transform along one axis."""
        if self.xp is np:
            return scipy.fft.rfft(array, axis=axis, workers=self.threads)
        return self.xp.fft.rfft(array, axis=axis)

    def irfft(self, array: Any, length: int, axis: int) -> Any:
        """Inverse of `rfft` to `length` samples; missing high frequencies are zeros."""
        if self.xp is np:
            return scipy.fft.irfft(array, length, axis=axis, workers=self.threads)
        return self.xp.fft.irfft(array, length, axis=axis)

    def fft2(self, array: Any) -> Any:
        """2D transforms over the last two axes."""
        if self.xp is np:
            return scipy.fft.rfft2(array, workers=self.threads)
        return self.xp.fft.rfft2(array).astype(self.xp.complex64, copy=False)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """Copy to the device when it is not there already."""
        return self.xp.asarray(array, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        """Copy to host memory as a numpy array."""
        return array if isinstance(array, np.ndarray) else array.get()

    def up(self, *arrays: NDArray[Any]) -> tuple[Any, ...]:
        """Several small host arrays on the device, by one copy; on the CPU themselves."""
        if self.xp is np:
            return arrays
        parts = [np.ascontiguousarray(array) for array in arrays]
        starts = list(itertools.accumulate((-(-part.nbytes // ALIGNED) * ALIGNED for part in parts), initial=0))
        packed = np.empty(starts[-1], np.uint8)
        for part, start in zip(parts, starts, strict=False):
            packed[start : start + part.nbytes] = part.reshape(-1).view(np.uint8)
        there = self.xp.asarray(packed)
        return tuple(
            there[start : start + part.nbytes].view(part.dtype).reshape(part.shape)
            for part, start in zip(parts, starts, strict=False)
        )

    def down(self, *arrays: Any) -> tuple[Any, ...]:
        """Several small arrays of the device as numpy arrays, by one copy that is waited for; on the CPU themselves."""
        xp = self.xp
        if xp is np:
            return arrays
        packed = xp.concatenate([xp.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])
        here, result, start = self.to_host(packed), [], 0
        for array in arrays:
            size = array.size * array.dtype.itemsize
            result.append(here[start : start + size].copy().view(array.dtype).reshape(array.shape))
            start += size
        return tuple(result)


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tumble-arrays")


def resident(device: Device, make: Callable[[Any], Any], argument: Any) -> Any:
    """``make(argument)``, an array or a tuple of them, kept on the device: tables that follow from sizes go there once.

    `make` gives host arrays and remembers them itself where that is worth it; `argument` is hashable.
    """
    return make(argument) if device.xp is np else _moved(device, make, argument)


@lru_cache(maxsize=64)
def _moved(device: Device, make: Callable[[Any], Any], argument: Any) -> Any:
    made = make(argument)
    return tuple(device.asarray(array) for array in made) if isinstance(made, tuple) else device.asarray(made)


def cpu(threads: int | None = None) -> Device:
    """The processor. `threads` defaults to the numba thread count."""
    from .kernels import cpu as kernels

    if threads is None:
        import numba

        threads = int(numba.get_num_threads())
    return Device("cpu", np, kernels, threads)


def gpu(index: int = 0) -> Device:
    """A CUDA device, believed in only after a real kernel gave the right answer on it.

    Raises
    ------
    RuntimeError : no usable GPU; the message says what is missing.
    """
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"no GPU: cupy is not installed ({error}); pip install 'tumble-em[gpu]'") from None
    try:
        with cupy.cuda.Device(index):
            got = float((cupy.arange(1000, dtype=cupy.float32) ** 2).sum())
            from .kernels import cuda as kernels

            kernels.check()
    except Exception as error:  # noqa: BLE001  # any failure of the driver, the compiler or the kernel means: not usable
        raise RuntimeError(
            f"no GPU: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from None
    if got != 332833500.0:
        raise RuntimeError(f"no GPU: wrong sum on the device ({got})")
    return Device(f"cuda:{index}", cupy, kernels)


def best() -> tuple[Device, str]:
    """The best device that really works here, and where that is the processor, why it is no GPU.

    TUMBLE_DEVICE=cpu keeps to the processor.
    """
    if os.environ.get("TUMBLE_DEVICE", "").lower() == "cpu":
        return cpu(), "TUMBLE_DEVICE=cpu"
    try:
        return gpu(), ""
    except RuntimeError as error:
        return cpu(), str(error)


def probe() -> Device:
    """The best device that really works here; TUMBLE_DEVICE=cpu keeps to the processor."""
    return best()[0]


def gpus_seen() -> int:
    """GPUs that this process sees, whether they work or not; 0 without cupy or a driver."""
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # noqa: BLE001  # whatever is missing: none is seen
        return 0


def card(device: Device) -> str:
    """Name and memory of a GPU, ``NVIDIA H200, 139 GiB``; "cpu" for the processor."""
    if device.xp is np:
        return device.name
    number = int(device.name.rpartition(":")[2])
    told = device.xp.cuda.runtime.getDeviceProperties(number)
    return f"{told['name'].decode()}, {told['totalGlobalMem'] / 2**30:.0f} GiB"


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what a processor or any library of a GPU says when there is no memory left."""
    words = str(error).lower().replace("_", " ")
    return isinstance(error, MemoryError) or any(part in words for part in NO_MEMORY_WORDS)


def recover(device: Device) -> str:
    """After work has failed on a device: give back what memory is spare; why it is of no more use, or "".

    An error of a kernel or of the memory of a GPU stays with the process: nothing works on it any more.
    """
    if device.xp is np:
        return ""
    try:
        device.xp.get_default_memory_pool().free_all_blocks()
        device.kernels.check()
    except Exception as error:  # noqa: BLE001  # any failure of the driver or the kernel means: not usable
        return "" if out_of_memory(error) else f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
