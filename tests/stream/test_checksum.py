"""The check sum of recordings is zlib's, however it is computed."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumble.stream import checksum
from tumble.stream.checksum import crc32


def some_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("begin", [0, 64, checksum._WORTH_IT - 32, 393_000])
def test_every_length_gives_what_zlib_gives(begin):
    data = some_bytes(begin + 130)
    for size in range(begin, begin + 130):
        assert crc32(memoryview(data)[:size]) == zlib.crc32(data[:size])


@given(st.integers(0, 100_000), st.integers(0, 1000), st.binary(max_size=8))
def test_wherever_the_bytes_begin(size, skipped, ahead):
    data = ahead + some_bytes(size + skipped, size)
    for part in (data[skipped:], memoryview(data)[skipped:], bytearray(data)[skipped:]):
        assert crc32(part) == zlib.crc32(data[skipped:])


@given(st.integers(0, 40_000), st.integers(0, 70), st.integers(0, 70))
def test_a_copy_on_the_way_is_one_and_touches_nothing_else(size, skipped, before):
    data = some_bytes(size + skipped, size)[skipped:]
    room = bytearray(b"\xaa" * (before + size + 70))
    assert crc32(data, memoryview(room)[before : before + size]) == zlib.crc32(data)
    assert room == b"\xaa" * before + data + b"\xaa" * 70


def test_a_single_changed_bit_is_noticed():
    data = bytearray(some_bytes(20_000))
    right = crc32(data)
    for place in (0, 63, 64, 9_999, 19_967, 19_968, 19_999):
        data[place] ^= 1
        assert crc32(data) != right
        data[place] ^= 1


def test_without_the_instruction_zlib_does_all(monkeypatch):
    monkeypatch.setattr(checksum, "FOLDS", False)
    monkeypatch.delattr(checksum, "_fold")
    data = some_bytes(50_000)
    room = bytearray(50_000)
    assert crc32(data) == crc32(data, memoryview(room)) == zlib.crc32(data)
    assert room == data


@pytest.mark.parametrize(("told", "folds"), [("", False), ("+sse2,-pclmul", False), ("+sse2,+pclmul", True)])
def test_what_the_compiler_is_told_counts(monkeypatch, told, folds):
    """Code for any processor (``NUMBA_CPU_NAME=generic``) must not hold the instruction."""
    monkeypatch.setattr(checksum.config, "CPU_FEATURES", told)
    monkeypatch.setattr(checksum.config, "DISABLE_JIT", 0)
    assert checksum._can_fold() is folds
    monkeypatch.setattr(checksum.config, "DISABLE_JIT", 1)
    assert not checksum._can_fold()
