"""The index that we write is one that HDF5 reads, and goes on with."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tumble.stream.checksum import lookup3
from tumble.stream.chunk_index import ChunkIndex
from tumble.stream.errors import RecordingError
from tumble.stream.object_header import ObjectHeader
from tumble.stream.repair import HEAD_BYTES, superblock

SHAPE = (3, 5)
CHUNK_BYTES = 30
FILTER = {"compression": 32008, "compression_opts": (0, 2)}


class File:
    """A file with an empty dataset that HDF5 made, and ourselves as the one who grows it."""

    def __init__(self, path: Path, attributes: int = 0, **filters: object) -> None:
        with h5py.File(path, "w", libver="v110") as file:
            data = file.create_dataset(
                "data", (0, *SHAPE), "u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE), **filters
            )
            for number in range(attributes):
                data.attrs[f"attribute {number}"] = "x" * 30
            self.address = h5py.h5o.get_info(data.id).addr
        self.file = os.open(path, os.O_RDWR)
        self.end = os.fstat(self.file).st_size

    def reserve(self, size: int) -> int:
        address, self.end = self.end, self.end + size
        return address

    def write(self, writes: list[tuple[int, bytes]]) -> None:
        for address, content in writes:
            os.pwrite(self.file, content, address)

    def close(self, end: int) -> None:
        os.ftruncate(self.file, end)
        os.pwrite(self.file, superblock(os.pread(self.file, HEAD_BYTES, 0), 0, end), 0)
        os.close(self.file)


@pytest.mark.parametrize("number", [1, 4, 5, 20, 21, 244, 245, 5000, 133_000])
def test_hdf5_finds_every_chunk_and_goes_on(tmp_path, number):
    """Across the ends of all kinds of blocks: the index block, data blocks, those of super blocks, and of pages."""
    path, rng = tmp_path / "a.h5", np.random.default_rng(number)
    file = File(path, **FILTER)
    header, index = ObjectHeader(file.file, file.address), ChunkIndex(file.reserve, CHUNK_BYTES)
    places = np.stack([10**9 + 7 * np.arange(number), rng.integers(1, 1000, number)], 1).astype(np.uint64)
    while index.count < number:
        rows = places[index.count : index.count + int(rng.integers(1, number // 4 + 2))]
        file.write(index.extend(index.rows(rows[:, 0], rows[:, 1])))
        file.write(header.changed(index.count, index.address))
    for position in {0, number // 2, number - 1}:
        row = os.pread(file.file, index.element_bytes, index.where(position))
        assert index.place(row) == tuple(places[position])
    file.close(2 * 10**9)
    with h5py.File(path, "r+", libver="v110") as again:
        data = again["data"]
        found: list[tuple[int, int]] = []
        data.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
        np.testing.assert_array_equal(np.array(found, np.uint64), places)
        data.resize(number + 100, axis=0)
        for position in range(number, number + 100):
            data.id.write_direct_chunk((position, 0, 0), b"more")
    with h5py.File(path) as again:
        assert {again["data"].id.read_direct_chunk((number + more, 0, 0))[1] for more in range(100)} == {b"more"}
        last = again["data"].id.get_chunk_info_by_coord((number - 1, 0, 0))
        assert (last.byte_offset, last.size) == tuple(places[-1])


def test_chunks_that_are_not_compressed(tmp_path):
    path = tmp_path / "a.h5"
    file = File(path)
    header, index = ObjectHeader(file.file, file.address), ChunkIndex(file.reserve)
    images = np.arange(300 * 15, dtype="<u2").reshape(300, *SHAPE)
    addresses = [file.reserve(CHUNK_BYTES) for _ in images]
    file.write([(address, image.tobytes()) for address, image in zip(addresses, images, strict=True)])
    file.write(index.extend(index.rows(np.array(addresses, np.uint64))))
    file.write(header.changed(len(images), index.address))
    file.close(file.end)
    with h5py.File(path) as again:
        np.testing.assert_array_equal(again["data"][:], images)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (288, 288), (1792, 1920), (16384, 8192)])
def test_elements_have_the_size_that_hdf5_expects(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w", libver="v110") as file:
        data = file.create_dataset("data", (1, *shape), "u2", maxshape=(None, *shape), chunks=(1, *shape), **FILTER)
        data.id.write_direct_chunk((0, 0, 0), b"x")
    content = (tmp_path / "a.h5").read_bytes()
    numbers = count()
    index = ChunkIndex(lambda _: next(numbers), 2 * shape[0] * shape[1])
    assert content[content.index(b"EAHD") + 6] == index.element_bytes


def test_a_header_in_several_parts(tmp_path):
    """Attributes for which there was no room: other messages moved into a part behind."""
    path = tmp_path / "a.h5"
    file = File(path, attributes=7, **FILTER)
    header, index = ObjectHeader(file.file, file.address), ChunkIndex(file.reserve, CHUNK_BYTES)
    file.write(index.extend(index.rows(np.array([10**6], np.uint64), np.array([9], np.uint64))))
    file.write(header.changed(1, index.address))
    file.close(2 * 10**6)
    with h5py.File(path) as again:
        assert again["data"].shape == (1, *SHAPE)
        assert len(again["data"].attrs) == 7


def test_what_is_no_header_that_we_know(tmp_path):
    path = tmp_path / "a.h5"
    file = File(path)
    with pytest.raises(RecordingError, match="cannot be found"):
        ObjectHeader(file.file, 0)
    os.pwrite(file.file, b"\xee", file.address + 30)
    with pytest.raises(RecordingError, match="damaged"):
        ObjectHeader(file.file, file.address)
    file.close(file.end)
    with h5py.File(path, "w", libver="v110") as other:
        fixed = h5py.h5o.get_info(other.create_dataset("data", data=np.zeros(3)).id).addr
    with path.open("rb") as again, pytest.raises(RecordingError, match="not one that grows"):
        ObjectHeader(again.fileno(), fixed)


def test_check_sums_are_those_of_their_author_and_of_hdf5(tmp_path):
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    file = File(tmp_path / "a.h5", **FILTER)
    head = os.pread(file.file, HEAD_BYTES + 4, 0)
    assert lookup3(head[:HEAD_BYTES]) == int.from_bytes(head[HEAD_BYTES:], "little")
    os.close(file.file)
