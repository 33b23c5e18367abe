"""The queue on disk: nothing lost, nothing out of order, nothing left behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.daemon.parcels import Parcel
from tumble.daemon.spool import Spool


def parcel(number: int, values: int = 10) -> Parcel:
    return Parcel(f"head {number}".encode(), np.arange(values, dtype=np.float32) + number)


def same(one: Parcel | None, other: Parcel) -> bool:
    return one is not None and one.head == other.head and np.array_equal(one.values, other.values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


@given(steps=st.lists(st.one_of(st.just(-1), st.integers(0, 300)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out_in_order(folder, steps):
    spool = Spool(folder, segment_bytes=2000, reserve_bytes=0)
    expected: list[Parcel] = []
    for number, step in enumerate(steps):
        if step >= 0:
            expected.append(parcel(number, step))
            spool.put(expected[-1])
        elif expected:
            assert same(spool.first(), expected.pop(0))
            spool.drop()
        else:
            assert spool.first() is None
        assert spool.count == len(expected)
        assert (spool.nbytes > 0) == bool(expected)
    spool.close()


def test_it_has_no_name_on_the_disk_and_gives_it_back(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    spool = Spool(folder, segment_bytes=1000, reserve_bytes=0)
    for number in range(100):
        spool.put(parcel(number))
    assert list(folder.iterdir()) == []
    segments = len(spool._segments)
    assert segments > 5
    for number in range(90):
        assert same(spool.first(), parcel(number))
        spool.drop()
    assert len(spool._segments) < segments / 2
    spool.close()
    assert spool.first() is None


def test_a_full_disk_loses_only_what_comes_then(tmp_path, monkeypatch):
    spool = Spool(tmp_path, reserve_bytes=0)
    spool.put(parcel(1))
    write = os.pwritev
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda number, parts, offset: write(number, [parts[0]], offset))
        with pytest.raises(OSError, match="space"):
            spool.put(parcel(2))
    spool.put(parcel(3))
    assert same(spool.first(), parcel(1))
    spool.drop()
    assert same(spool.first(), parcel(3))
    spool.close()


def test_it_leaves_room_for_the_recording(tmp_path):
    with pytest.raises(OSError, match="MiB are free in"):
        Spool(tmp_path, reserve_bytes=1 << 60).put(parcel(1))
