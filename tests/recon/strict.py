"""A stand-in for cupy on machines without a GPU: numpy underneath, but host and device arrays never mix.

As strict as cupy or stricter: an operation of a device array with a host array, an index or a value that lies on the
host, a function of numpy on a device array, an implicit conversion to numpy all raise. Reductions give 0-d arrays.
What is moved on purpose is counted, and what would be launched on a GPU: `transfers`. A launch is an operation here; of
some of them cupy and cuFFT make two or three (sums, transforms over several axes).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from tumble.recon.device import Device
from tumble.recon.kernels import cpu, pixels_cpu
from tumble.recon.kernels.pixels import Tables

SCALARS = (bool, int, float, complex, np.generic)
INDICES = (int, np.integer, slice, type(None), type(Ellipsis))


@dataclass
class Transfers:
    """Copies between host and device and their bytes, and launches: of arithmetic, of transforms, of own kernels."""

    ups: int = 0
    up_bytes: int = 0
    downs: int = 0
    down_bytes: int = 0
    operations: int = 0
    transforms: int = 0
    kernels: int = 0

    def up(self, size: int) -> None:
        self.ups, self.up_bytes = self.ups + 1, self.up_bytes + size

    def down(self, size: int) -> None:
        self.downs, self.down_bytes = self.downs + 1, self.down_bytes + size

    def since(self, before: Transfers) -> Transfers:
        return Transfers(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def now(self) -> Transfers:
        return replace(self)


transfers = Transfers()


def _inside(value: Any) -> Any:
    """The numpy array of a device array; scalars as they are."""
    if isinstance(value, StrictArray):
        return value.inner
    if isinstance(value, SCALARS):
        return value
    raise TypeError(f"{type(value).__name__} used with a device array")


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    if isinstance(index, INDICES):
        return index
    return _inside(index)


def _computed(value: Any, seen: Any = None) -> StrictArray:
    """What an operation gave; a view of `seen` is launched for nothing."""
    if seen is None or not np.may_share_memory(np.asarray(value), seen):
        transfers.operations += 1
    return StrictArray(value)


def _binary(name: str, *, swapped: bool = False) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        a, b = self.inner, _inside(other)
        return _computed(function(b, a) if swapped else function(a, b))

    return method


def _in_place(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        self.inner = function(self.inner, _inside(other))
        transfers.operations += 1
        return self

    return method


def _method(name: str) -> Any:
    def method(self: StrictArray, *arguments: Any, **named: Any) -> StrictArray:
        return _computed(getattr(self.inner, name)(*arguments, **named), self.inner)

    return method


class Stream:
    """What it is told to do waits until somebody waits for it, as late as may be; the current one is prompt."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.waiting: list[Callable[[], object]] = []

    def record(self) -> Event:
        return Event(self, len(self.waiting))

    def wait_event(self, event: Event) -> None:
        event.synchronize()


class Event:
    """A place in the queue of a stream."""

    def __init__(self, stream: Stream, place: int) -> None:
        self.stream, self.before = stream, stream.waiting[:place]

    def synchronize(self) -> None:
        for work in self.before:
            if work in self.stream.waiting:
                work()
                self.stream.waiting.remove(work)


current = Stream()
locked: dict[int, Any] = {}  # page-locked memory by its address


def _locked(size: int) -> Any:
    memory = np.full(size, 255, np.uint8)
    locked[memory.ctypes.data] = memory
    return memory


class StrictArray:
    """An array "on the device"; `get` is the only way back."""

    def __init__(self, inner: Any) -> None:
        self.inner = np.asarray(inner)

    def get(self) -> np.ndarray[Any, Any]:
        transfers.down(self.inner.nbytes)
        return self.inner.copy()

    shape = property(lambda self: self.inner.shape)
    dtype = property(lambda self: self.inner.dtype)
    ndim = property(lambda self: self.inner.ndim)
    size = property(lambda self: self.inner.size)
    nbytes = property(lambda self: self.inner.nbytes)
    real = property(lambda self: StrictArray(self.inner.real))
    imag = property(lambda self: StrictArray(self.inner.imag))
    T = property(lambda self: StrictArray(self.inner.T))

    def __len__(self) -> int:
        return len(self.inner)

    def set(self, here: np.ndarray[Any, Any], stream: Stream) -> None:
        """Filled from page-locked memory when the stream comes to it."""
        assert here.ctypes.data in locked, "an asynchronous copy needs page-locked memory"
        transfers.up(here.nbytes)
        stream.waiting.append(lambda: np.copyto(self.inner, here))

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __abs__(self) -> StrictArray:
        return _computed(abs(self.inner))

    def __neg__(self) -> StrictArray:
        return _computed(-self.inner)

    def __getitem__(self, index: Any) -> StrictArray:
        return _computed(self.inner[_index(index)], self.inner)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.inner[_index(index)] = _inside(value)
        transfers.operations += 1

    def __array__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError("implicit conversion of a device array to numpy")

    def __array_function__(self, function: Any, *arguments: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of a device array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> StrictArray:
        if method != "__call__" or named:
            raise TypeError(f"numpy.{ufunc.__name__}.{method} of a device array")
        return _computed(ufunc(*(_inside(x) for x in inputs)))


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and_", "or_"):
    _plain = _name.rstrip("_")
    setattr(StrictArray, f"__{_plain}__", _binary(_name))
    setattr(StrictArray, f"__r{_plain}__", _binary(_name, swapped=True))
    setattr(StrictArray, f"__i{_plain}__", _in_place("i" + _plain))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _binary(_name))
for _name in (
    "sum", "mean", "max", "min", "argmax", "argmin", "reshape", "ravel", "astype", "copy", "conj", "transpose",
    "swapaxes", "view", "std", "prod",
):  # fmt: skip
    setattr(StrictArray, _name, _method(_name))


def _function(function: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> StrictArray:
        return _computed(function(*(_inside(a) for a in arguments), **named))

    return call


def _transform(function: Any) -> Any:
    def call(array: StrictArray, *arguments: Any, **named: Any) -> StrictArray:
        transfers.transforms += 1
        return StrictArray(function(_inside(array), *arguments, **named))

    return call


def _made(function: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> StrictArray:
        transfers.operations += function is not np.empty
        return StrictArray(function(*arguments, **named))

    return call


def _asarray(array: Any, dtype: Any = None) -> StrictArray:
    if isinstance(array, StrictArray):
        return array if dtype is None or array.dtype == dtype else array.astype(dtype)
    there = np.array(array, dtype)
    transfers.up(there.nbytes)
    return StrictArray(there)


def _ascontiguousarray(array: StrictArray, dtype: Any = None) -> StrictArray:
    return _computed(np.ascontiguousarray(_inside(array), dtype), _inside(array))


def _ix(*axes: StrictArray) -> tuple[StrictArray, ...]:
    return tuple(StrictArray(a) for a in np.ix_(*(_inside(a) for a in axes)))


class Namespace(SimpleNamespace):
    """A namespace that, like a module, is one of a kind."""

    __hash__ = object.__hash__


xp: Any = Namespace(
    float32=np.float32, complex64=np.complex64, uint8=np.uint8, pi=np.pi,
    zeros=_made(np.zeros), empty=_made(np.empty), ones=_made(np.ones), arange=_made(np.arange),
    asarray=_asarray, array=_asarray, ascontiguousarray=_ascontiguousarray, ix_=_ix, bincount=_function(np.bincount),
    maximum=_function(np.maximum), minimum=_function(np.minimum), exp=_function(np.exp), sqrt=_function(np.sqrt),
    where=_function(np.where), einsum=lambda how, *arrays: _computed(np.einsum(how, *(_inside(a) for a in arrays))),
    cuda=SimpleNamespace(Stream=Stream, get_current_stream=lambda: current, alloc_pinned_memory=_locked),
    concatenate=lambda parts, axis=0: _computed(np.concatenate([_inside(part) for part in parts], axis)),
    fft=SimpleNamespace(
        rfftn=_transform(np.fft.rfftn), irfftn=_transform(np.fft.irfftn), rfft2=_transform(np.fft.rfft2),
        fft=_transform(np.fft.fft), ifft=_transform(np.fft.ifft),
        rfft=_transform(np.fft.rfft), irfft=_transform(np.fft.irfft),
        fftshift=_function(np.fft.fftshift), ifftshift=_function(np.fft.ifftshift),
    ),
)  # fmt: skip


def _unwrapped(value: Any) -> Any:
    """What a launcher of the CPU takes."""
    if isinstance(value, Tables):
        return Tables(*(_inside(getattr(value, item.name)) for item in fields(value)))
    return tuple(value) if isinstance(value, tuple) else _inside(value)


def _launcher(module: Any, name: str) -> Any:
    def call(*arguments: Any) -> Any:
        result = getattr(module, name)(*(_unwrapped(a) for a in arguments))
        transfers.kernels += 1
        if isinstance(result, np.ndarray):
            return StrictArray(result)
        if isinstance(result, tuple) and isinstance(result[0], np.ndarray):
            return tuple(StrictArray(r) for r in result)
        if result is not None:  # numbers, which somebody on the host waits for
            transfers.down(8 * np.size(result))
        return result

    return call


pixels: Any = Namespace(
    **{name: _launcher(pixels_cpu, name) for name in ("levels", "correct", "fill", "bin_mean", "bin_energy", "cut")}
)
kernels: Any = Namespace(
    **{name: _launcher(cpu, name) for name in ("slice_volume", "score_pairs", "refine_poses", "insert_poses")},
    pixels=pixels,
)


def device() -> Device:
    """A device that computes on the CPU and behaves like a GPU."""
    return Device("strict", xp, kernels)
