"""What is known of the detector reaches the front end; a series without a pixel size is recorded; others may listen."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tumble.daemon.calibration import DetectorTables
from tumble.daemon.config import DetectorSettings, Settings
from tumble.daemon.errors import UsageError
from tumble.daemon.parts import RealParts
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.readers import open_recording
from tumble.stream.source import PullSource

from .programs import ended_when

SHAPE = (40, 50)


@pytest.fixture
def files(tmp_path):
    """Gain as .npy, dark as a movie in HDF5, mask as an image in HDF5."""
    np.save(tmp_path / "gain.npy", np.full(SHAPE, 2.0, np.float32))
    with h5py.File(tmp_path / "dark.h5", "w") as file:
        file["frames"] = np.stack([np.full(SHAPE, value, np.uint16) for value in (9, 11)])
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["mask"] = np.eye(*SHAPE, dtype=np.uint8)
    names = {"gain_file": "gain.npy", "dark_file": "dark.h5", "mask_file": "mask.h5"}
    return {name: tmp_path / file for name, file in names.items()}


def test_tables_come_from_files_and_from_the_stream(files):
    mask = np.zeros(SHAPE, np.uint32)
    mask[3, 40] = 8
    start = SeriesStart(1, pixel_mask=mask, flatfield=np.full(SHAPE, 3.0))
    made = DetectorTables(DetectorSettings(**files)).calibration(start, *SHAPE)
    assert (made.gain == 2).all()  # of the operator, before that of the stream
    assert (made.dark == 10).all()
    assert made.bad.sum() == 41
    assert made.notes[-1] == "41 bad pixels are known beforehand"
    alone = DetectorTables(DetectorSettings()).calibration(start, *SHAPE)
    assert (alone.gain == 3).all()
    assert alone.dark is None
    assert DetectorTables(DetectorSettings()).calibration(replace(start, flatfield_applied=True), *SHAPE).gain is None
    assert DetectorTables(DetectorSettings(flatfield="never")).calibration(start, *SHAPE).gain is None
    nothing = DetectorTables(DetectorSettings()).calibration(SeriesStart(1), *SHAPE)
    assert (nothing.gain, nothing.dark, nothing.bad, nothing.notes) == (None, None, None, ())


def test_tables_of_another_size_are_named_and_not_used(files):
    start = SeriesStart(1, pixel_mask=np.ones((4, 5), np.uint32))
    made = DetectorTables(DetectorSettings(gain_file=files["gain_file"])).calibration(start, 30, 50)
    assert (made.gain, made.bad) == (None, None)
    assert "gain.npy is 50 x 40 px, but frames are 50 x 30 px: it is not used" in made.notes[0]
    assert made.notes[1].startswith("pixel mask of the stream is 5 x 4 px")
    whole = DetectorTables(DetectorSettings()).calibration(SeriesStart(1, pixel_mask=np.ones(SHAPE, np.uint32)), *SHAPE)
    assert whole.bad is None
    assert "leaves no pixel" in whole.notes[0]


def test_files_that_are_none_are_refused_before_anything_begins(tmp_path):
    (tmp_path / "gain.npy").write_text("no array")
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 4)))
    for name, words in (("missing.mrc", "no such file"), ("gain.npy", "cannot be read"), ("cube.npy", "one image")):
        with pytest.raises(UsageError, match=rf"detector.gain_file: .*{words}"):
            RealParts(Settings.model_validate({"detector": {"gain_file": tmp_path / name}}))


def test_the_front_end_corrects_by_them(files):
    parts = RealParts(Settings.model_validate({"detector": files}))
    parts.begin(SeriesStart(1))
    front = parts.front_end(*SHAPE, 0.358)
    out = front.step(0, 0.0, np.random.default_rng(0).poisson(100, SHAPE).astype(np.uint16))
    assert any("gain corrected by the detector.gain_file" in words for words in out.events)
    assert front._corrector.active


def without_pixel_size(events):
    for event in events:
        if isinstance(event, SeriesStart):
            event = replace(event, pixel_size_A=None, user_data={})
        yield event


def test_a_series_without_a_pixel_size_is_recorded_and_said_to_be(series, publish, run_service):
    with publish(without_pixel_size(series(60))) as uri:
        run = run_service(uri, record=True)
    assert run.code == 2, run.text
    assert "recorded only; tumble replay" in run.text
    assert "--pixel-size" in run.text
    assert "received 60 = used 0 + rejected 60 (pixel size unknown 60) + dropped 0 + in flight 0" in run.text
    with open_recording(run.folder / "frames.h5") as recording:
        assert len(recording) == 60


def test_without_a_recording_it_is_refused_at_once(series, publish, run_service):
    with publish(without_pixel_size(series(60))) as uri:
        run = run_service(uri)
    assert run.code == 2, run.text
    assert "give it with --pixel-size" in run.text


def test_others_may_look_at_the_stream(series, publish, run_service, tmp_path):
    seen: list = []
    sockets = tmp_path / "tee"

    def look() -> None:
        with PullSource(f"zmq+sub+ipc://{sockets}", end_timeout_s=60.0) as source:
            for event in source:
                seen.append(event)
                if isinstance(event, SeriesEnd):
                    return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    with publish(ended_when(series(100_000), lambda: len(seen) > 60)) as uri:
        run = run_service(uri, tee=f"ipc://{sockets}", tee_every=2)
    watcher.join(60)
    assert run.code == 0, run.text
    (received,) = map(int, re.findall(r"received (\d+) = used \1 ", run.text))
    indices = [event.index for event in seen if isinstance(event, Frame)]
    assert len(indices) > 50
    assert indices == list(range(indices[0], received, 2))
    assert isinstance(seen[0], SeriesStart)
