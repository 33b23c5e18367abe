"""Recordings: the bytes of the detector, readable by anybody, and nothing that was flushed is ever lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  # plain readers register the filters like this
import numpy as np
import pytest

from tumble.stream.compression import compress
from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.errors import RecordingError, RecordingGoneError
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder
from tumble.stream.repair import repair_recording

PIXELS = np.random.default_rng(2).poisson(1.5, (20, 30)).astype(np.uint16)
START = SeriesStart(
    series_id=6,
    unique_id="abc",
    frame_time_s=0.0025,
    pixel_size_A=0.358,
    dose_e_per_A2=80.0,
    voltage_kV=300.0,
    detector="simulated",
    pixel_mask=np.eye(20, 30, dtype=np.uint32),
)


def encoded(index: int, algorithm: str = "bslz4", dtype: str = "<u2") -> EncodedFrame:
    return encode_frame(Frame(6, index, (PIXELS + index).astype(dtype), index * 0.0025), algorithm)


def test_what_is_written_is_read(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for index in (0, 1, 5, 6):  # three frames were lost on the way
            recorder.write(encoded(index))
        assert recorder.frames == 4
    with open_recording(tmp_path / "a.h5", series_id=6) as recording:
        assert [recording.frame(position).index for position in range(4)] == [0, 1, 5, 6]
        assert recording.frame(2).time_s == pytest.approx(5 * 0.0025)
        np.testing.assert_array_equal(recording.frame(2).data, PIXELS + 5)
        for name in ("unique_id", "frame_time_s", "pixel_size_A", "dose_e_per_A2", "voltage_kV", "detector"):
            assert getattr(recording.start, name) == getattr(START, name)
        np.testing.assert_array_equal(recording.start.pixel_mask, START.pixel_mask)
        assert recording.forwards


def test_blobs_are_stored_as_they_came(tmp_path):
    """Compressed by somebody else, with other block sizes: the chunk in the file is the very same bytes."""
    blob = compress(PIXELS, "bslz4")
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(EncodedFrame(6, 0, 0.0, (20, 30), np.dtype("<u2"), "bslz4", blob))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["/entry/data/data"].id.read_direct_chunk((0, 0, 0))[1] == blob


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<u4", "<f4", "<i4"])
@pytest.mark.parametrize("algorithm", ["bslz4", "lz4", "none"])
def test_plain_h5py_reads_it(tmp_path, dtype, algorithm):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for index in range(3):
            recorder.write(encoded(index, algorithm, dtype))
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["/entry/data/data"]
        assert (data.chunks, data.dtype, data.maxshape) == ((1, 20, 30), np.dtype(dtype), (None, 20, 30))
        np.testing.assert_array_equal(data[:], np.stack([PIXELS, PIXELS + 1, PIXELS + 2]))
        np.testing.assert_array_equal(file["/entry/data/image_id"][:], [0, 1, 2])
        np.testing.assert_allclose(file["/entry/data/time_s"][:], [0, 0.0025, 0.005])
        assert file["/entry"].attrs["NX_class"] == "NXentry"


def test_frames_of_mixed_form(tmp_path):
    """One file has one filter: what does not fit it is compressed again."""
    column_major = EncodedFrame(6, 4, 0.0, (20, 30), PIXELS.dtype, "none", np.asfortranarray(PIXELS).T.tobytes(), True)
    forms = [encoded(0), encoded(1, "lz4"), encoded(2, "none"), Frame(6, 3, PIXELS, 0.0), column_major]
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for form in forms:
            recorder.write(form)
    with open_recording(tmp_path / "a.h5") as recording:
        for position, expected in enumerate((PIXELS, PIXELS + 1, PIXELS + 2, PIXELS, PIXELS)):
            np.testing.assert_array_equal(recording.frame(position).data, expected)


def test_one_file_has_one_byte_order(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for frame in (encoded(0, dtype=">u2"), encoded(1, "none", ">u2"), encoded(2, dtype="<u2"), encoded(3, "lz4")):
            recorder.write(frame)
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["/entry/data/data"]
        assert data.dtype == np.dtype(">u2")
        np.testing.assert_array_equal(data[:], np.stack([PIXELS + index for index in range(4)]))


def test_a_frame_of_another_shape_is_refused(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(encoded(0))
        for other in (PIXELS[1:], PIXELS.astype("u4")):
            with pytest.raises(RecordingError, match="another shape or type"):
                recorder.write(Frame(6, 1, other, 0.0))
        recorder.write(encoded(1))
        assert recorder.frames == 2


def test_recordings_are_never_overwritten(tmp_path):
    (tmp_path / "a.h5").write_text("precious")
    with pytest.raises(RecordingError, match="exists already"):
        Recorder(tmp_path / "a.h5", START)
    with pytest.raises(RecordingError, match="cannot write"):
        Recorder(tmp_path / "no" / "a.h5", START)


def test_without_frames(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.flush()
    recorder.close()
    with pytest.raises(RecordingError, match="no 3D dataset"):
        open_recording(tmp_path / "a.h5")


def test_a_reader_can_look_while_it_is_written(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(encoded(0))
        recorder.flush()
        code = (
            "import sys; from tumble.stream.readers import open_recording\n"
            "with open_recording(sys.argv[1]) as recording: print(len(recording), recording.frame(0).data.sum())"
        )
        seen = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.h5"], capture_output=True, text=True, check=True
        )
    assert seen.stdout.split() == ["1", str(PIXELS.sum())]


WRITER = """
import sys
import zlib
import numpy as np
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.recorder import Recorder

rng = np.random.default_rng(0)
recorder = Recorder(sys.argv[1], SeriesStart(6, pixel_size_A=0.358), flush_every_s=0.02)
index = flushed = 0
while True:
    recorder.write(Frame(6, 2 * index, np.full((64, 64), index % 60000, np.uint16), index * 0.5))
    index += 1
    if index % 100 == 0:
        recorder.flush()
        print(index, flush=True)
"""


def killed_recording(path: Path) -> int:
    """Record in a process of its own, kill it in the middle of its work, return how many frames it had flushed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        process.wait()
    return max(int(line) for line in ["2000", *rest] if line)


def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path):
    flushed = killed_recording(tmp_path / "a.h5")
    with open_recording(tmp_path / "a.h5") as recording:
        assert len(recording) >= flushed >= 2000
        for position in range(0, flushed, 7):
            frame = recording.frame(position)
            assert (frame.index, frame.time_s) == (2 * position, position * 0.5)
            assert (frame.data == position).all()
        assert recording.start.pixel_size_A == 0.358


def test_a_repaired_recording_is_an_ordinary_file(tmp_path):
    path = tmp_path / "a.h5"
    flushed = killed_recording(path)
    with pytest.raises(OSError, match="already open"):
        h5py.File(path)
    assert repair_recording(path)
    assert not repair_recording(path)
    with h5py.File(path, "r+") as file:
        data = file["/entry/data/data"]
        assert len(data) >= flushed
        assert (data[flushed - 1] == flushed - 1).all()
        file.attrs["note"] = "can be written to again"
    assert not repair_recording(path)


def test_repair_touches_nothing_else(tmp_path):
    (tmp_path / "text").write_text("not HDF5")
    for name in ("text", "missing"):
        with pytest.raises(RecordingError):
            repair_recording(tmp_path / name)
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(encoded(0))
    before = (tmp_path / "a.h5").read_bytes()
    assert not repair_recording(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == before
    (tmp_path / "a.h5").write_bytes(before[:20] + b"\xee" + before[21:])
    with pytest.raises(RecordingError, match="damaged"):
        repair_recording(tmp_path / "a.h5")


def test_every_frame_has_a_check_sum(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for index in range(3):
            recorder.write(encoded(index))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        data = file["/entry/data/data"]
        blobs = [data.id.read_direct_chunk((position, 0, 0))[1] for position in range(3)]
        assert file["/entry/data/crc32"][:].tolist() == [zlib.crc32(blob) for blob in blobs]
        damaged = bytearray(blobs[1])
        damaged[-1] ^= 1
        data.id.write_direct_chunk((1, 0, 0), bytes(damaged))
    with open_recording(tmp_path / "a.h5") as recording:
        np.testing.assert_array_equal(recording.frame(2).data, PIXELS + 2)
        for read in (recording.frame, recording.encoded):
            with pytest.raises(RecordingError, match="frame 1 is damaged"):
                read(1)


def test_layout_is_that_of_nxmx(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(encoded(0))
    with h5py.File(tmp_path / "a.h5") as file:
        names = ("entry", "entry/data", "entry/instrument", "entry/instrument/detector", "entry/instrument/beam")
        classes = ["NXentry", "NXdata", "NXinstrument", "NXdetector", "NXbeam"]
        assert [file[name].attrs["NX_class"] for name in names] == classes
        assert file["entry/definition"][()] == b"NXmx"
        assert file[file.attrs["default"]][file["entry"].attrs["default"]].attrs["signal"] == "data"
        assert file["entry/instrument/beam/incident_wavelength"][()] == pytest.approx(0.019687, abs=1e-6)
        assert file["entry/instrument/detector/frame_time"].attrs["units"] == "s"
        np.testing.assert_array_equal(file["entry/instrument/detector/data"][0], PIXELS)


def test_other_programs_open_it(tmp_path):
    nexus = pytest.importorskip("nexusformat.nexus")
    with Recorder(tmp_path / "a.h5", START) as recorder:
        recorder.write(encoded(0))
    tree = nexus.nxload(tmp_path / "a.h5")
    assert tree.entry.nxclass == "NXentry"
    assert tree.get_default().nxsignal.shape == (1, 20, 30)


def test_frames_are_read_back_while_it_is_written(tmp_path):
    with Recorder(tmp_path / "a.h5", START) as recorder:
        for index in range(50):
            recorder.write(encoded(index))
            back = recorder.read(index // 2, index // 2, 0.5)
            assert (back.index, back.time_s) == (index // 2, 0.5)
            np.testing.assert_array_equal(back.decode().data, PIXELS + index // 2)
        for position in (-1, 50):
            with pytest.raises(RecordingError, match="no frame at position"):
                recorder.read(position, 0, 0.0)


def test_a_full_disk_pauses_the_recording(tmp_path):
    """Frames are refused while there is no room, and the file stays good; with room again it goes on."""
    free = [10_000]
    recorder = Recorder(tmp_path / "a.h5", START, reserve_bytes=5000, free_bytes=lambda _: free[0], flush_every_s=0.0)
    with recorder:
        assert recorder.write(encoded(0))
        free[0] = 5000
        assert not recorder.write(encoded(1))
        assert recorder.full
        free[0] = 9000  # not enough to begin again
        assert not recorder.write(encoded(2))
        free[0] = 20_000
        assert recorder.write(encoded(3))
        assert not recorder.full
    with open_recording(tmp_path / "a.h5") as recording:
        assert [recording.index(position) for position in range(len(recording))] == [0, 3]
        np.testing.assert_array_equal(recording.frame(1).data, PIXELS + 3)


def test_a_recording_that_is_removed_while_it_is_written_is_missed(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    recorder = Recorder(folder / "a.h5", START, flush_every_s=0.0)
    assert recorder.write(encoded(0))
    shutil.rmtree(folder)
    with pytest.raises(RecordingGoneError, match="was removed while it was written"):
        recorder.write(encoded(1))
    with pytest.raises(RecordingGoneError):
        recorder.close()


def test_a_recording_whose_folder_is_renamed_goes_on(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    with Recorder(folder / "a.h5", START, flush_every_s=0.0) as recorder:
        assert recorder.write(encoded(0))
        folder.rename(tmp_path / "elsewhere")
        assert recorder.write(encoded(1))
    with open_recording(tmp_path / "elsewhere" / "a.h5") as recording:
        assert len(recording) == 2


def test_a_start_that_cannot_be_written_down_is_an_error_of_the_recording(tmp_path):
    recorder = Recorder(tmp_path / "a.h5", SeriesStart(1, "a\0b"))
    with pytest.raises(RecordingError, match="cannot write"):
        recorder.write(encoded(0))
    recorder.close()


FILLS_UP = """
import resource, sys
import numpy as np
from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesStart
from tumble.stream.recorder import Recorder

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
rng = np.random.default_rng(0)
recorder = Recorder(sys.argv[1], SeriesStart(6), flush_every_s=0.0)
try:
    for index in range(1000):
        recorder.write(Frame(6, index, rng.integers(0, 60000, (64, 64), np.uint16), 0.0))
except RecordingError as error:
    print(recorder.frames, error)
try:
    recorder.close()
except RecordingError as error:
    print("close:", error)
print("alive")
"""


def test_a_disk_that_fails_all_the_same_is_an_error_and_no_crash(tmp_path):
    """The kernel refuses to make the file larger, as it does when a disk is full: what was flushed can be read."""
    ran = subprocess.run(
        [sys.executable, "-c", FILLS_UP, tmp_path / "a.h5"], capture_output=True, text=True, check=False, timeout=300
    )
    lines = ran.stdout.splitlines()
    assert lines[-1] == "alive", ran.stderr
    assert "cannot write" in lines[0]
    frames = int(lines[0].split()[0])
    assert 50 < frames < 200
    with open_recording(tmp_path / "a.h5") as recording:
        rng = np.random.default_rng(0)
        for position in range(frames):
            np.testing.assert_array_equal(recording.frame(position).data, rng.integers(0, 60000, (64, 64), np.uint16))


def test_the_last_frames_are_flushed_while_none_comes(tmp_path):
    """A process that is killed long after them must not lose them."""
    path = tmp_path / "frames.h5"
    with Recorder(path, SeriesStart(1), flush_every_s=0.0) as recorder:
        recorder._flush_every_s = 3600.0
        recorder.write(Frame(1, 0, np.ones((6, 8), np.uint16), 0.0))
        recorder.idle()  # not yet due
        with h5py.File(path, "r", swmr=True) as file:
            assert len(file["entry/data/image_id"]) == 0
        recorder._flush_every_s = 0.0
        recorder.idle()
        with h5py.File(path, "r", swmr=True) as file:
            assert len(file["entry/data/image_id"]) == 1


def recorded_by_hdf5(path: Path, frames: int) -> None:
    """A recording as HDF5 itself writes it, which older versions of this program left to it."""
    with Recorder(path.with_name("form.h5"), START) as recorder:
        recorder.write(encoded(0))
    with h5py.File(path.with_name("form.h5")) as form, h5py.File(path, "w", libver="v110") as file:
        form.copy("entry", file)
        for name in ("data", "image_id", "time_s", "crc32"):
            file[f"entry/data/{name}"].resize(frames, axis=0)
        for index in range(frames):
            blob = bytes(encoded(index).blob)
            file["entry/data/data"].id.write_direct_chunk((index, 0, 0), blob)
            file["entry/data/image_id"][index] = index
            file["entry/data/time_s"][index] = index * 0.0025
            file["entry/data/crc32"][index] = zlib.crc32(blob)


def test_a_recording_is_gone_on_with_again_and_again(tmp_path):
    """Also one that HDF5 wrote: the first frames lie where they were, and everything is there for any reader."""
    path = tmp_path / "a.h5"
    recorded_by_hdf5(path, 40)
    for begun in (40, 41, 341):
        recorder = Recorder(path, START, resume=True)
        assert recorder.frames == begun
        assert recorder.numbers()[0].tolist() == list(range(begun))
        np.testing.assert_allclose(recorder.numbers()[1], np.arange(begun) * 0.0025)
        for index in range(begun, begun + 1 if begun == 40 else begun + 300):
            recorder.write(encoded(index))
        for position in (0, begun - 1, begun):
            np.testing.assert_array_equal(recorder.read(position, position, 0.0).decode().data, PIXELS + position)
        recorder.close()
    with h5py.File(path) as file:
        assert file["/entry/data/image_id"][:].tolist() == list(range(641))
        expected = PIXELS[None] + np.arange(641, dtype=np.uint16)[:, None, None]
        np.testing.assert_array_equal(file["/entry/data/data"][:], expected)


def test_at_every_flush_the_file_is_a_whole_one(tmp_path):
    path = tmp_path / "a.h5"
    with Recorder(path, START, flush_every_s=3600.0) as recorder:
        for index in range(300):
            recorder.write(encoded(index))
            if index % 17 == 0:
                recorder.flush()
                with h5py.File(path, "r", swmr=True) as file:
                    assert len(file["entry/data/data"]) == len(file["entry/data/crc32"]) == index + 1
                    np.testing.assert_array_equal(file["entry/data/data"][index], PIXELS + index)


def test_a_reader_beside_the_writer_sees_it_grow(tmp_path):
    path = tmp_path / "a.h5"
    with Recorder(path, START) as recorder:
        recorder.write(encoded(0))
        recorder.flush()
        with h5py.File(path, "r", swmr=True) as file:
            data = file["entry/data/data"]
            for index in range(1, 200, 9):
                for number in range(index, index + 9):
                    recorder.write(encoded(number))
                recorder.flush()
                data.refresh()
                assert len(data) == index + 9
                np.testing.assert_array_equal(data[index + 8], PIXELS + index + 8)


def test_frames_that_a_failing_disk_did_not_take_do_not_count(tmp_path, monkeypatch):
    """They had been accepted: whoever asks later has to hear what is in the file, and gets what is still in memory."""
    really = os.pwrite
    recorder = Recorder(tmp_path / "a.h5", START, flush_every_s=3600.0)
    for index in range(10):
        recorder.write(encoded(index))
    recorder.flush()

    def refuse(file, view, address):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", refuse)
    for index in range(10, 20):
        recorder.write(encoded(index))
    with pytest.raises(RecordingError, match="Input/output error"):
        recorder.flush()
    assert recorder.frames == 10
    np.testing.assert_array_equal(recorder.read(19, 19, 0.0).decode().data, PIXELS + 19)
    monkeypatch.setattr(os, "pwrite", really)
    with pytest.raises(RecordingError, match="Input/output error"):
        recorder.close()
    with open_recording(tmp_path / "a.h5") as recording:
        assert [recording.frame(position).index for position in range(len(recording))] == list(range(10))
