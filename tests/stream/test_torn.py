"""A writer that is killed in the middle of any of its writes leaves every frame that was complete, and none twice.

The system copies what is written page by page, and may stop between two pages when the process is killed. So files are
built here of all writes up to one, and of a part of that: of what fits into a page all or nothing, of larger ones any
number of bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from tumble.stream import chunk_index, direct
from tumble.stream.chunk_index import ChunkIndex
from tumble.stream.direct import PAGE, Write
from tumble.stream.encoded import EncodedFrame
from tumble.stream.frame import SeriesStart
from tumble.stream.object_header import ObjectHeader
from tumble.stream.recorder import Recorder
from tumble.stream.repair import HEAD_BYTES, WRITTEN_TO, superblock

START = SeriesStart(3, "id" * 100, detector="d" * 1000, pixel_size_A=0.3, user_data={"said": "x" * 700})
SHAPE, CHUNK_BYTES = (300, 300), 180_000  # so that an element of the index has 16 bytes


def torn(write: Write, page: int) -> Iterator[int]:
    """How many bytes of a write may have been done when its process was killed, but for all."""
    address, content = write
    yield 0
    borders = range(-address % page or page, len(content), page)
    if borders:
        yield from sorted({1, borders[0], borders[len(borders) // 2], borders[-1], len(content) - 1})


@dataclass
class Log:
    """What was done to a file, in order: writes, with the number of frames that were complete before each."""

    writes: list[Write] = field(default_factory=list)
    complete: list[int] = field(default_factory=list)
    frames: int = 0

    def note(self, file: int, view: memoryview, address: int) -> None:
        """Take the place of what writes."""
        self.writes.append((address, bytes(view)))
        self.complete.append(self.frames)
        os.pwrite(file, view, address)

    def note_length(self, file: int, size: int) -> None:
        """Take the place of what makes the file longer."""
        self.note(file, memoryview(b""), size)
        os.truncate(file, size)

    def killed(self, path: Path, first: int) -> Iterator[tuple[int, str]]:
        """Build each file that a kill from write number `first` on may leave; how many frames it has, and where."""
        content = bytearray()
        for number, (address, data) in enumerate(self.writes):
            content.extend(bytes(max(0, address + len(data) - len(content))))
            for end in torn((address, data), PAGE) if number >= first else ():
                path.write_bytes(content[:address] + data[:end] + content[address + end :])
                yield self.complete[number], f"write {number} at {address}: {end} of {len(data)} bytes"
            content[address : address + len(data)] = data


def encoded(index: int) -> EncodedFrame:
    blob = index.to_bytes(4, "big") * 6
    return EncodedFrame(3, index, index * 0.5, SHAPE, np.dtype("<u2"), "bslz4", blob, pose=(1.0, 0.0, 0.0, index))


def check(path: Path, least: int, place: str) -> int:
    """A reader finds the frames; how many they are."""
    with h5py.File(path, "r", swmr=True) as file:
        group = file["entry/data"]
        names = ("data", "image_id", "time_s", "crc32", "pose")
        frames = min(len(group[name]) for name in names)
        assert frames >= least, place
        assert group["image_id"][:frames].tolist() == list(range(frames)), place
        assert (group["pose"][:frames, 3] == np.arange(frames)).all(), place
        looked_at = {0, least // 2, *range(max(0, least - 300), least, 17), *range(max(0, frames - 3), frames)}
        for position in looked_at & set(range(frames)):
            assert group["data"].id.read_direct_chunk((position, 0, 0))[1] == encoded(position).blob, place
    return frames


def check_resumed(path: Path, frames: int, place: str) -> None:
    """A recorder goes on behind them, and reads them back on the way."""
    with Recorder(path, START, resume=True) as recorder:
        assert recorder.frames == frames, place
        assert recorder.numbers()[0].tolist() == list(range(frames)), place
        for index in range(frames, frames + 3):
            recorder.write(encoded(index))
            recorder.flush()
            for position in (index, max(0, index - 1), index // 2):
                assert recorder.read(position, position, 0.0).blob == encoded(position).blob, place
    with h5py.File(path) as file:
        assert file["entry/data/image_id"][:].tolist() == list(range(frames + 3)), place
        assert len(file["entry/data/data"]) == frames + 3, place


def recorded(path: Path, monkeypatch: pytest.MonkeyPatch, until: list[int], *, resume: bool = False) -> Log:
    """Record up to these numbers of frames with a flush at each, and keep what was written."""
    log = Log(frames=0)
    if resume:
        log.note(os.open(os.devnull, os.O_RDWR), memoryview(path.read_bytes()), 0)
    monkeypatch.setattr(direct, "_write_all", log.note)
    monkeypatch.setattr(os, "ftruncate", log.note_length)
    with Recorder(path, START, flush_every_s=3600.0, resume=resume) as recorder:
        log.frames = recorder.frames
        for frames in until:
            for index in range(recorder.frames, frames):
                recorder.write(encoded(index))
            recorder.flush()
            log.frames = frames
    monkeypatch.undo()
    return log


@pytest.mark.parametrize("until", [[1, 3, 6, 21, 40], [2030, 2037, 2039, 2100, 2300, 2301]])
def test_a_killed_recording_has_every_frame_that_was_complete(tmp_path, monkeypatch, until):
    """With the first blocks, and with blocks of the index that are larger than a page (from frame 2036 on)."""
    log = recorded(tmp_path / "whole.h5", monkeypatch, until)
    path = tmp_path / "killed.h5"
    heads = [number for number, (address, data) in enumerate(log.writes) if address == 0 and len(data) > PAGE]
    first = heads[-1] + 1 if until[0] == 1 else log.complete.index(until[0])
    for number, (least, place) in enumerate(log.killed(path, first)):
        frames = check(path, least, place)
        if number % 3 == 0:
            check_resumed(path, frames, place)
    assert number > 50


def test_a_recorder_that_is_killed_while_it_goes_on_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "whole.h5"
    with Recorder(path, START) as recorder:
        for index in range(2100):
            recorder.write(encoded(index))
    log = recorded(path, monkeypatch, [2101], resume=True)
    for number, (_, place) in enumerate(log.killed(tmp_path / "killed.h5", 1)):
        frames = check(tmp_path / "killed.h5", 2100, place)
        if number % 3 == 0:
            check_resumed(tmp_path / "killed.h5", frames, place)


def test_blocks_of_the_index_are_never_torn_where_something_points_to_them(tmp_path, monkeypatch):
    """Of all kinds, super blocks too: as if a page of the system were of 512 bytes."""
    page, steps = 512, [1, 5, 20, 60, 500, 2100, 33_000, 33_500, 65_530, 65_540, 66_001]
    monkeypatch.setattr(chunk_index, "PAGE", page)
    path, larger = tmp_path / "a.h5", 0
    filters = {"compression": 32008, "compression_opts": (0, 2), "chunks": (1, *SHAPE), "maxshape": (None, *SHAPE)}
    with h5py.File(path, "w", libver="v110") as file:
        address = h5py.h5o.get_info(file.create_dataset("data", (0, *SHAPE), "u2", **filters).id).addr
    content = bytearray(path.read_bytes())
    content[: HEAD_BYTES + 4] = superblock(content, WRITTEN_TO, len(content))
    content.extend(bytes(-len(content) % page))

    def reserve(size: int) -> int:
        begin = len(content) + (-len(content) % page if len(content) % page + size > page else 0)
        content.extend(bytes(begin + size - len(content)))
        return begin

    with path.open("rb") as file:
        header = ObjectHeader(file.fileno(), address)
    index = ChunkIndex(reserve, CHUNK_BYTES)
    for before, after in pairwise([0, *steps]):
        numbers = np.arange(before, after, dtype=np.uint64)
        writes = index.extend(index.rows(10**9 + 7 * numbers, 1 + numbers % 255)) + header.changed(after, index.address)
        for number, (address, data) in enumerate(writes):
            larger += len(data) > page
            for done in torn((address, data), page) if before and (number < 3 or number > len(writes) - 6) else ():
                path.write_bytes(content[:address] + data[:done] + content[address + done :])
                with h5py.File(path, "r", swmr=True) as file:
                    assert len(file["data"]) == before
                    for position in {0, before // 3, before // 2, *range(max(0, before - 9), before)}:
                        chunk = file["data"].id.get_chunk_info_by_coord((position, 0, 0))
                        assert (chunk.byte_offset, chunk.size) == (10**9 + 7 * position, 1 + position % 255)
            content[address : address + len(data)] = data
    assert larger > 50
