"""The front end on a stand-in for a GPU: the same tracks, the pixels stay there, and copies are in time."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tumble.recon.device import cpu
from tumble.recon.frontend.correction import Calibration
from tumble.recon.frontend.feed import Feed
from tumble.recon.frontend.frontend import FrontEnd, FrontEndOutput
from tumble.recon.frontend.options import FrontEndOptions

PIXEL_A = 0.358
OPTIONS = FrontEndOptions(window_frames=30, search_frames=3)


def run(frames: np.ndarray, device: Any, calibration: Calibration | None = None) -> tuple[FrontEnd, FrontEndOutput]:
    front = FrontEnd(*frames.shape[1:], PIXEL_A, OPTIONS, calibration, device)
    outputs = [front.step(index, index * 0.0025, frame) for index, frame in enumerate(frames)]
    outputs.append(front.flush())
    parts = ([p for out in outputs for p in getattr(out, name)] for name in ("observations", "analysed", "rejected"))
    return front, FrontEndOutput(*(tuple(part) for part in parts))


@pytest.fixture(scope="module")
def frames(twin: Any) -> np.ndarray:
    chosen = twin.frames[:70].copy()
    chosen[41] = 0  # blank
    chosen[52, :2] = 65535  # saturated
    return chosen


@pytest.mark.parametrize("calibrated", [False, True])
def test_tracks_and_boxes_are_those_of_the_processor(strict: ModuleType, frames: np.ndarray, calibrated: bool) -> None:
    rng = np.random.default_rng(5)
    shape = frames.shape[1:]
    tables = Calibration(rng.uniform(0, 0.1, shape), rng.uniform(0.9, 1.1, shape), rng.random(shape) < 1e-3)
    calibration = tables if calibrated else None
    here, expected = run(frames, cpu(1), calibration)
    there, found = run(frames, strict.device(), calibration)
    assert found.analysed == expected.analysed
    assert sorted(found.rejected) == sorted(expected.rejected)
    assert [reason for _, reason in found.rejected] == ["blank", "saturated"]
    assert len(found.observations) == len(expected.observations) > 100
    for ours, theirs in zip(found.observations, expected.observations, strict=True):
        assert (ours.particle, ours.frame, ours.reason) == (theirs.particle, theirs.frame, theirs.reason)
        np.testing.assert_allclose(ours.centre_px, theirs.centre_px, atol=1e-3)
        if ours.corner_px == theirs.corner_px:
            np.testing.assert_allclose(ours.box, theirs.box, atol=1e-5)
    ours, theirs = (front.noise(96) for front in (there, here))
    assert (ours is None) == (theirs is None)
    if ours is not None and theirs is not None:
        np.testing.assert_allclose(ours.power, theirs.power, rtol=1e-4)


def test_of_a_frame_only_crops_and_boxes_come_back(strict: ModuleType, frames: np.ndarray) -> None:
    front = FrontEnd(*frames.shape[1:], PIXEL_A, OPTIONS, None, strict.device())
    for index in range(40):
        front.step(index, index * 0.0025, frames[index])
    before, count, box_px = strict.transfers.now(), 0, 0
    for index in range(42, 52):
        for seen in front.step(index, index * 0.0025, frames[index]).observations:
            count, box_px = count + 1, len(seen.box)
    moved = strict.transfers.since(before)
    assert count == 2 * 10
    # in: the frame, and where to cut
    assert moved.up_bytes < 10 * (frames[0].nbytes + 500)
    bins = front._followers.tracks[0].crop_bins
    boxes = (2 + OPTIONS.noise_boxes * len(front._noise._whole)) * box_px**2
    field = 3 * (frames.shape[1] // 4) * (frames.shape[2] // 4) / front._searcher.every
    assert moved.down_bytes < 4 * 10 * (2 * 3 * bins**2 + boxes + 1.3 * field) + 10 * 64
    assert moved.downs < 10 * 7  # levels, maps of the crops, boxes, empty boxes
    assert 100 < moved.operations + moved.transforms + moved.kernels < 10 * 30


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="there may be a GPU")
def test_a_gpu_that_is_wanted_but_not_there_is_told() -> None:
    with pytest.raises(RuntimeError, match="no GPU: cupy is not installed"):
        FrontEnd(200, 200, PIXEL_A, FrontEndOptions(device="gpu"))


def test_a_frame_is_copied_while_the_one_before_is_worked_on(strict: ModuleType) -> None:
    feed = Feed((3, 4), strict.device())
    assert feed.ahead
    sent = [np.full((3, 4), value, np.uint16) for value in range(1, 6)]
    held = []
    for data in sent:
        counts, frame = feed.send(data)
        np.testing.assert_array_equal(counts, data)
        held.append((frame, counts))
        data[:] = 0  # the sender's memory is its own again
    assert [int(frame.inner[0, 0]) for frame, _ in held] == [1, 2, 3, 4, 5]
    # two buffers in turn: what the host reads of a frame is good until the next but one
    assert [int(counts[0, 0]) for _, counts in held] == [5, 4, 5, 4, 5]


def test_a_buffer_is_filled_only_after_its_copy_has_left(strict: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is late with everything, also with waiting: the copies come when somebody on the host waits."""
    monkeypatch.setattr(strict.current, "wait_event", lambda event: None)
    feed = Feed((3, 4), strict.device())
    frames = [feed.send(np.full((3, 4), value, np.uint16))[1] for value in range(1, 6)]
    feed._stream.record().synchronize()
    assert [int(frame.inner[0, 0]) for frame in frames] == [1, 2, 3, 4, 5]


def test_room_on_a_device_is_written_to_only_after_it_was_read(strict: ModuleType) -> None:
    feed = Feed((3, 4), strict.device())
    _, frame = feed.send(np.ones((3, 4), np.uint16))
    read: list[str] = []
    strict.current.waiting.append(lambda: read.append("read"))
    feed.give_back(frame)
    _, again = feed.send(np.zeros((3, 4), np.uint16))
    assert again is frame
    assert read == ["read"]


def test_rooms_do_not_pile_up(strict: ModuleType) -> None:
    for device in (strict.device(), cpu(1)):
        feed = Feed((3, 4), device)
        for _ in range(5):
            feed.keep(feed.send(np.zeros((3, 4), np.uint16))[1])
        for _ in range(9):
            feed.give_back(device.xp.zeros((3, 4), np.uint16))
            feed.give_back(device.xp.zeros((3, 4), np.uint32))  # sums of frames, which nobody asks for
        assert {kind.name: len(spare) for kind, spare in feed._spare.items()} == {"uint16": 2}
