"""Compressed payloads: there and back, the same as HDF5's own filters, and nothing a damaged one can do."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.stream.compression import compress, decompress, decompress_lz4_block, default_block_bytes
from tumble.stream.errors import CompressionError

DTYPES = ("u1", "<u2", ">u2", "<u4", "<u8", "i2", "f4", "f8")


def counts(seed: int, size: int, mean: float, dtype: str) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, size).astype(dtype)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 20_000),
    mean=st.sampled_from([0.0, 0.02, 1.0, 40.0, 200.0]),
    dtype=st.sampled_from(DTYPES),
    algorithm=st.sampled_from(["none", "lz4", "bslz4"]),
)
def test_round_trip_of_counts(seed, size, mean, dtype, algorithm):
    data = counts(seed, size, mean, dtype)
    out = np.full(data.nbytes, 0xAA, np.uint8)
    back = decompress(compress(data, algorithm), algorithm, data.itemsize, data.nbytes, out)
    assert back is out
    np.testing.assert_array_equal(back.view(data.dtype), data)


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(min_size=0, max_size=3000), algorithm=st.sampled_from(["none", "lz4", "bslz4"]))
def test_round_trip_of_any_bytes(raw, algorithm):
    data = np.frombuffer(raw, np.uint8)
    blob = compress(data, algorithm)
    assert decompress(blob, algorithm, 1, len(raw)).tobytes() == raw


def test_round_trip_across_blocks_of_lz4():
    data = counts(3, 1_500_000, 0.3, "u2")  # more than two blocks, of which one does not compress
    data[700_000:] = np.random.default_rng(0).integers(0, 2**16, 800_000)
    blob = compress(data, "lz4")
    np.testing.assert_array_equal(decompress(blob, "lz4", 2, data.nbytes).view("u2"), data)


def hdf5_chunk(path: Path, data: np.ndarray, **filters: object) -> bytes:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=data, chunks=data.shape, **filters)
        return dataset.id.read_direct_chunk((0,) * data.ndim)[1]


def hdf5_read(path: Path, blob: bytes, data: np.ndarray, **filters: object) -> np.ndarray:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", shape=data.shape, dtype=data.dtype, chunks=data.shape, **filters)
        dataset.id.write_direct_chunk((0,) * data.ndim, blob)
        return dataset[()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 8), (37, 41), (100, 130), (3, 3), (1, 1)])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4"])
def test_the_same_bytes_as_the_filters_of_hdf5(tmp_path, dtype, shape, algorithm):
    """What HDF5 writes we read, what we write HDF5 reads: the compressors may differ, the format may not."""
    data = counts(7, int(np.prod(shape)), 3.0, dtype).reshape(shape)
    filters = hdf5plugin.Bitshuffle(cname="lz4") if algorithm == "bslz4" else hdf5plugin.LZ4()
    theirs = hdf5_chunk(tmp_path / "a.h5", data, **filters)
    np.testing.assert_array_equal(
        decompress(theirs, algorithm, data.itemsize, data.nbytes).view(dtype).reshape(shape), data
    )
    np.testing.assert_array_equal(hdf5_read(tmp_path / "b.h5", compress(data, algorithm), data, **filters), data)


def test_golden_bslz4_by_hand():
    """Sixteen u8 elements, all 1: plane 0 is two bytes 0xff, the other seven planes are 14 zeros."""
    # literals ff ff 00, then a match of five zeros at distance one, then eight literal zeros: 3 + 5 + 8 = 16
    block = bytes([0x31, 0xFF, 0xFF, 0x00, 0x01, 0x00, 0x80]) + bytes(8)
    blob = (16).to_bytes(8, "big") + (8192).to_bytes(4, "big") + len(block).to_bytes(4, "big") + block
    assert decompress(blob, "bslz4", 1, 16).tobytes() == bytes([1] * 16)


def test_golden_bslz4_puts_the_leftover_elements_at_the_end():
    data = np.arange(11, dtype=np.uint16)
    blob = compress(data, "bslz4")
    assert blob[:12] == (22).to_bytes(8, "big") + (8192).to_bytes(4, "big")
    assert blob[-6:] == data[8:].tobytes()


def test_default_block_is_that_of_the_reference_implementation():
    assert [default_block_bytes(size) for size in (1, 2, 4, 8)] == [8192] * 4
    assert default_block_bytes(3) == 2728 * 3


def test_bare_lz4_block():
    assert decompress_lz4_block(bytes([0x30]) + b"abc", 3).tobytes() == b"abc"
    with pytest.raises(CompressionError):
        decompress_lz4_block(bytes([0x30]) + b"abc", 4)


@settings(max_examples=300, deadline=None)
@given(
    algorithm=st.sampled_from(["lz4", "bslz4"]),
    seed=st.integers(0, 1000),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_damaged_payloads_are_either_refused_or_expand_to_the_right_size(algorithm, seed, flips, cut):
    """Bytes next to the target must stay as they are: nothing is written outside."""
    data = counts(seed, 2000, 2.0, "u2")
    blob = bytearray(compress(data, algorithm))
    for position, flip in flips:
        blob[position % len(blob)] ^= flip
    blob = blob[: len(blob) - cut] if seed % 2 else blob
    guarded = np.full(data.nbytes + 64, 0xA5, np.uint8)
    with contextlib.suppress(CompressionError):
        decompress(blob, algorithm, 2, data.nbytes, guarded[32:-32])
    assert (guarded[:32] == 0xA5).all()
    assert (guarded[-32:] == 0xA5).all()


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=400),
    algorithm=st.sampled_from(["lz4", "bslz4"]),
    block=st.sampled_from([0, 16, 64, 8192]),
)
def test_random_bytes_behind_a_right_header(body, algorithm, block):
    blob = (512).to_bytes(8, "big") + block.to_bytes(4, "big") + body
    with contextlib.suppress(CompressionError):
        assert decompress(blob, algorithm, 2, 512).size == 512


@pytest.mark.parametrize(
    ("algorithm", "element_size", "raw_bytes"),
    [("zip", 2, 16), ("bslz4", 0, 16), ("bslz4", 17, 34), ("none", 2, 15), ("none", 2, -2), ("lz4", 1, 2**40)],
)
def test_impossible_arguments(algorithm, element_size, raw_bytes):
    with pytest.raises(CompressionError):
        decompress(b"0123456789abcdef", algorithm, element_size, raw_bytes)


def test_nothing_is_allocated_on_the_word_of_a_payload():
    blob = (1 << 29).to_bytes(8, "big") + (8192).to_bytes(4, "big") + bytes(1000)
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError, match="cannot hold"):
            decompress(blob, "bslz4", 2, 1 << 29)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_output_buffer_has_to_fit():
    blob = compress(np.zeros(8, np.uint16), "bslz4")
    for wrong in (np.empty(8, np.uint16), np.empty(15, np.uint8), np.empty((16, 2), np.uint8)[:, 0]):
        with pytest.raises(CompressionError, match="output buffer"):
            decompress(blob, "bslz4", 2, 16, wrong)
        with pytest.raises(CompressionError, match="output buffer"):
            decompress_lz4_block(b"\x10\x00", 16, wrong)


def test_unknown_compression_is_refused_when_writing():
    with pytest.raises(CompressionError, match="unknown compression"):
        compress(np.zeros(8, np.uint16), "zstd")
