"""State in HDF5 and back: bit for bit, shared where it was shared, and nothing made that is not of this program."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass

import h5py
import numpy as np
import pytest

from tumble.daemon.freezer import NotKeptError, freeze, thaw
from tumble.recon.clock import StepClock
from tumble.recon.site import FIRST, Site

HERE = (__name__, "tumble.recon")


@pytest.fixture
def group():
    """A group of a file in memory."""
    with h5py.File("state", "w", driver="core", backing_store=False) as file:
        yield file.create_group("state")


class Plain:
    """An object with attributes, of this module."""

    def look(self) -> str:
        return "seen"


@dataclass(frozen=True, slots=True)
class Fixed:
    """One that cannot be changed."""

    number: int
    rows: object


def again(value, group, known=None):
    freeze(value, group, known or {}, HERE)
    return thaw(group, known or {}, HERE)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2**80, -0.1, float("inf"), "words \N{GREEK SMALL LETTER MU}", [], (1, (2.5, None)),
        {"a": [1], 7: ()}, {(1, "b"): {2}}, frozenset({1, 2}), deque([1, 2], 5), Counter({"seventh": 3}),
        np.float32(0.1), np.bool_(True),
    ],
)  # fmt: skip
def test_values_come_back(value, group):
    found = again(value, group)
    assert type(found) is type(value)
    assert found == value
    assert not isinstance(value, deque) or found.maxlen == value.maxlen


def test_a_number_that_is_none_comes_back(group):
    assert np.isnan(again(float("nan"), group))


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "i2", "i8", "?", "u1", ">u2"])
def test_arrays_come_back_with_their_layout(dtype, group):
    rng = np.random.default_rng(1)
    whole = (100 * rng.normal(size=(4, 5, 6))).astype(dtype)
    arrays = [
        whole,
        np.asfortranarray(whole),
        whole.copy().transpose(2, 0, 1),
        whole.copy()[1:, ::2, 3],
        whole.copy()[:0],
    ]
    arrays.append(np.array(7, dtype))
    arrays[0].flags.writeable = False
    for array, found in zip(arrays, again(arrays, group), strict=True):
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.flags.writeable) == (array.dtype, array.flags.writeable)
        assert not array.size or found.strides == array.strides


def test_what_is_shared_is_shared_again_and_rings_are_closed(group):
    one, table = Plain(), np.arange(3)
    one.itself, one.table, one.fixed, one.look_later = one, table, Fixed(1, [table]), one.look
    one.empty = []
    one.twice = (one.empty, one.empty)
    found = again(one, group)
    assert found is not one
    assert found.itself is found
    assert found.fixed.rows[0] is found.table
    assert found.twice[0] is found.twice[1] is found.empty
    assert found.look_later.__self__ is found
    assert found.look_later() == "seen"


def test_what_belongs_to_the_process_and_constants_of_modules_are_the_same_ones(group):
    def noise() -> None:
        return

    one = Plain()
    one.noise, one.site, one.clock = noise, Site(np.zeros(3), 11.0), StepClock()
    found = again(one, group, {"noise": noise})
    assert found.noise is noise
    assert found.site.grain is found.site.grains[0] is FIRST  # code asks whether it is
    assert found.clock.wait is one.clock.wait


@pytest.mark.parametrize("value", [lambda: 0, object(), json.JSONDecoder(), np.array([None]), np.arange(3)[::-1]])
def test_what_cannot_be_kept_is_refused(value, group):
    with pytest.raises(NotKeptError):
        freeze([value], group, {}, HERE)


def test_arrays_in_the_same_memory_are_refused(group):
    array = np.arange(10)
    with pytest.raises(NotKeptError, match="share memory"):
        freeze([array, array[2:5]], group, {}, HERE)


@pytest.mark.parametrize(
    "table",
    [
        [["object", "subprocess:Popen", []]],
        [["name", "os:system"]],
        [["name", "tumble.daemon.cli:main"]],
        [["known", "device"]],
        [["array", "no", "<f4", [4], True]],
        [["strange", 1]],
        [],
        "text",
    ],
)
def test_a_table_of_somebody_else_makes_nothing(table, group):
    text = json.dumps({"root": [0], "table": table})
    group.create_dataset("table", data=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(NotKeptError):
        thaw(group, {})
