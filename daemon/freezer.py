"""The state of a reconstruction in an HDF5 group, and back: bit for bit, what is shared shared again. No pickle.

The group holds every array as a data set and one JSON text, a table of all values that are not plain numbers or words:
what each is made of, with references into the table. Of objects, only those of named packages are kept, by the name of
their class and their attributes; nothing is called when they are made again. What belongs to the process and not to the
state (a device, a source of noise) is kept by name only, and so are the constants of modules: code may ask whether a
value *is* such a constant.
"""

from __future__ import annotations

import json
import sys
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

PACKAGES = ("tumble.recon",)
_PLAIN = (type(None), bool, int, float, str)
_ROWS: dict[str, Any] = {"tuple": tuple, "list": list, "set": set, "frozenset": frozenset}
_PAIRS: dict[str, Any] = {"dict": dict, "counter": Counter}


class NotKeptError(Exception):
    """The state holds something that cannot be kept, or it was kept by another program."""


def freeze(value: object, group: h5py.Group, known: Mapping[str, object], packages: Iterable[str] = PACKAGES) -> None:
    """Write a value into an empty group.

    Parameters
    ----------
    known : what is not written but put in again by its name.
    packages : whose objects may be kept.

    Raises
    ------
    NotKeptError : it holds an object, an array or a function of another kind, or arrays that share memory.
    OSError : the disk fails.
    """
    freezer = _Freezer(group, known, tuple(packages))
    root = freezer.reference(value)
    freezer.check_memory()
    text = json.dumps({"root": root, "table": freezer.table})
    group.create_dataset("table", data=np.frombuffer(text.encode(), np.uint8))


def thaw(group: h5py.Group, known: Mapping[str, object], packages: Iterable[str] = PACKAGES) -> Any:
    """The value that `freeze` has written.

    Raises
    ------
    NotKeptError : it needs something that is not known here.
    """
    try:
        kept = json.loads(group["table"][:].tobytes())
        return _Thawer(group, kept["table"], known, tuple(packages)).value(kept["root"])
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, OSError, RuntimeError, IndexError) as error:
        raise NotKeptError(f"{type(error).__name__}: {error}") from None


class _Freezer:
    def __init__(self, group: h5py.Group, known: Mapping[str, object], packages: tuple[str, ...]) -> None:
        self._group, self._packages = group, packages
        self._names: dict[int, tuple[str, str]] = {id(item): ("name", name) for name, item in _constants(packages)}
        self._names.update({id(item): ("known", name) for name, item in known.items()})
        self._places: dict[int, int] = {}
        self._arrays: list[NDArray[Any]] = []
        self._seen: list[object] = []  # so that no place in memory is used twice meanwhile
        self.table: list[Any] = []

    def reference(self, value: object) -> Any:
        """A plain value itself; of another one its place in the table, as a list of one."""
        if type(value) in _PLAIN:
            return value
        if id(value) not in self._places:
            self._places[id(value)] = len(self.table)
            self._seen.append(value)
            self.table.append(None)
            self.table[self._places[id(value)]] = self._entry(value)
        return [self._places[id(value)]]

    def _entry(self, value: Any) -> Any:
        if id(value) in self._names:
            return self._names[id(value)]
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return ["scalar", self._array(np.asarray(value))]
        for name, kind in _ROWS.items():
            if type(value) is kind:
                return [name, [self.reference(item) for item in value]]
        for name, kind in _PAIRS.items():
            if type(value) is kind:
                return [name, [[self.reference(key), self.reference(item)] for key, item in value.items()]]
        if type(value) is deque:
            return ["deque", [self.reference(item) for item in value], value.maxlen]
        if isinstance(value, types.MethodType):
            return ["method", self.reference(value.__self__), value.__func__.__name__]
        if isinstance(value, types.FunctionType | type):
            return ["name", self._name(value)]
        return self._object(value)

    def _object(self, value: Any) -> Any:
        name = self._name(type(value))
        if isinstance(value, tuple):
            return ["row", name, [self.reference(item) for item in value]]
        return ["object", name, [[field, self.reference(item)] for field, item in _attributes(value)]]

    def _name(self, made: Any) -> str:
        name = f"{made.__module__}:{made.__qualname__}"
        if not _within(made.__module__, self._packages) or _named(name, self._packages) is not made:
            raise NotKeptError(f"{name} cannot be kept")
        return name

    def _array(self, array: NDArray[Any]) -> Any:
        if type(array) is not np.ndarray or array.dtype.hasobject or min(array.strides, default=0) < 0:
            raise NotKeptError(f"an array of {array.dtype} with strides {array.strides} cannot be kept")
        name = str(len(self._arrays))
        self._arrays.append(array)
        self._group.create_dataset(name, data=array)
        return ["array", name, array.dtype.str, list(array.strides), array.flags.writeable]

    def check_memory(self) -> None:
        """No two arrays may share memory: they would not when they are made again."""
        bounds = sorted(byte_bounds(array) for array in self._arrays if array.size)
        if any(first[1] > second[0] for first, second in pairwise(bounds)):
            raise NotKeptError("arrays that share memory cannot be kept")


class _Thawer:
    def __init__(
        self, group: h5py.Group, table: list[Any], known: Mapping[str, object], packages: tuple[str, ...]
    ) -> None:
        self._group, self._table, self._known, self._packages = group, table, known, packages
        self._made: dict[int, Any] = {}

    def value(self, reference: Any) -> Any:
        if not isinstance(reference, list):
            return reference
        (place,) = reference
        if place not in self._made:
            self._make(place, *self._table[place])
        return self._made[place]

    def _make(self, place: int, kind: str, first: Any, *rest: Any) -> None:
        if kind == "object":
            self._make_object(place, first, rest[0])
        elif kind in _PAIRS:
            made = self._made[place] = _PAIRS[kind]()
            made.update({self.value(key): self.value(item) for key, item in first})
        elif kind == "list":
            self._made[place] = made = []
            made.extend(self.value(item) for item in first)
        else:
            self._made[place] = self._other(kind, first, *rest)

    def _make_object(self, place: int, name: str, fields: list[Any]) -> None:
        kind = _named(name, self._packages)
        self._made[place] = made = kind.__new__(kind)
        for field, item in fields:
            object.__setattr__(made, field, self.value(item))  # frozen dataclasses too

    def _other(self, kind: str, first: Any, *rest: Any) -> Any:
        if kind == "array":
            return self._array(first, *rest)
        if kind == "scalar":
            return self._array(*first[1:])[()]
        if kind == "known":
            return self._known[first]
        if kind == "name":
            return _named(first, self._packages)
        if kind == "method":
            return getattr(self.value(first), rest[0])
        if kind == "row":
            return tuple.__new__(_named(first, self._packages), [self.value(item) for item in rest[0]])
        items = [self.value(item) for item in first]
        return deque(items, rest[0]) if kind == "deque" else _ROWS[kind](items)

    def _array(self, name: str, dtype: str, strides: list[int], writeable: bool) -> NDArray[Any]:
        """With its layout: sums depend on it in the last bit."""
        stored = self._group[name]
        extent = sum((size - 1) * step for size, step in zip(stored.shape, strides, strict=True)) if stored.size else 0
        room = np.zeros(extent + np.dtype(dtype).itemsize, np.uint8)
        made: NDArray[Any] = np.ndarray(stored.shape, dtype, room, 0, tuple(strides))
        if made.size:
            made[...] = stored[()]
        made.flags.writeable = writeable
        return made


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _named(name: str, packages: tuple[str, ...]) -> Any:
    module, _, path = name.partition(":")
    if not _within(module, packages):
        raise NotKeptError(f"{name} is not of this program")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _constants(packages: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Objects that stand in modules under a name, and the names."""
    for name, module in list(sys.modules.items()):
        if _within(name, packages):
            for label, item in vars(module).items():
                if _within(type(item).__module__, packages):
                    yield f"{name}:{label}", item


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)
