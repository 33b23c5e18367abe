"""Recorded files: whatever HDF5 holds frames is opened, one frame at a time; errors are one line."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from tumble.stream.encoded import EncodedFrame
from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.readers import open_recording

FRAMES = np.random.default_rng(2).poisson(1.5, (7, 20, 30)).astype(np.uint16)
ATTRIBUTES = {"pixel_size_A": 0.358, "frame_time_s": 0.0025, "dose_e_per_A2_per_frame": 80.0, "voltage_kV": 300.0}
FILTERS = {
    "bslz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "lz4": hdf5plugin.LZ4(),
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "bszstd": hdf5plugin.Bitshuffle(cname="zstd"),
}


def write(path: Path, name: str = "frames", data: np.ndarray = FRAMES, chunk: int = 1, **named: object) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=data, chunks=(chunk, *data.shape[1:]), **named)
    return path


@pytest.mark.parametrize("compression", FILTERS)
@pytest.mark.parametrize("chunk", [1, 3])
def test_frames_of_any_compression(tmp_path, compression, chunk):
    path = write(tmp_path / "a.h5", chunk=chunk, **FILTERS[compression])
    with open_recording(path) as recording:
        assert len(recording) == 7
        for position in (6, 0, 3):
            frame = recording.frame(position)
            assert (frame.index, frame.data.dtype) == (position, np.uint16)
            np.testing.assert_array_equal(frame.data, FRAMES[position])
            np.testing.assert_array_equal(recording.encoded(position).decode().data, FRAMES[position])
        assert recording.forwards == (chunk == 1 and compression in ("bslz4", "lz4"))


def test_compressed_chunks_are_handed_on_as_they_are(tmp_path):
    path = write(tmp_path / "a.h5", **FILTERS["bslz4"])
    with open_recording(path) as recording, h5py.File(path) as file:
        for position, event in enumerate(list(recording.encoded_events())[1:-1]):
            assert isinstance(event, EncodedFrame)
            assert event.algorithm == "bslz4"
            assert event.blob == file["frames"].id.read_direct_chunk((position, 0, 0))[1]


def test_what_the_attributes_say(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs.update(ATTRIBUTES)
        file["frames"].attrs["pixel_size_A"] = 0.4  # nearer to the data, so it is right
    with open_recording(path, dose_e_per_A2=25.0, series_id=9) as recording:
        start = recording.start
    assert (start.pixel_size_A, start.frame_time_s, start.dose_e_per_A2, start.voltage_kV) == (0.4, 0.0025, 25.0, 300.0)
    assert (start.series_id, start.width, start.height, start.number_of_images) == (9, 30, 20, 7)
    assert start.dtype == np.uint16


def test_a_file_that_says_nothing(tmp_path):
    with open_recording(write(tmp_path / "a.h5")) as recording:
        assert recording.start.pixel_size_A is None
        assert recording.frame(3).time_s == 0.0
    with open_recording(write(tmp_path / "b.h5"), pixel_size_A=0.3, frame_time_s=0.5) as recording:
        assert recording.start.pixel_size_A == 0.3
        assert recording.frame(3).time_s == 1.5


def test_events(tmp_path):
    with open_recording(write(tmp_path / "a.h5")) as recording:
        start, *frames, end = recording
    assert isinstance(start, SeriesStart)
    assert all(isinstance(frame, Frame) for frame in frames)
    assert len(frames) == 7
    assert end == SeriesEnd(1)


def test_the_largest_dataset_is_taken_unless_named(tmp_path):
    path = write(tmp_path / "a.h5", "small", FRAMES[:2])
    write(path, "deep/large", FRAMES)
    write(path, "mask", np.zeros((1, 900, 900), bool))
    with h5py.File(path, "a") as file:
        file["flat"] = np.zeros((500, 500))
        file["broken"] = h5py.ExternalLink("nowhere.h5", "/x")
    with open_recording(path) as recording:
        assert len(recording) == 7
    with open_recording(path, dataset="small") as recording:
        assert len(recording) == 2
    with pytest.raises(RecordingError, match=r"has no 3D dataset 'flat'; it has .*large"):
        open_recording(path, dataset="flat")


def test_nexus_master_with_linked_data_files(tmp_path):
    write(tmp_path / "data_2.h5", "/entry/data/data", FRAMES[4:], **FILTERS["bslz4"])
    write(tmp_path / "data_1.h5", "/entry/data/data", FRAMES[:4], **FILTERS["bslz4"])
    with h5py.File(tmp_path / "master.h5", "w") as file:
        for number in (1, 2, 3):  # the third file was never written
            file[f"/entry/data/data_00000{number}"] = h5py.ExternalLink(f"data_{number}.h5", "/entry/data/data")
        detector = file.create_group("/entry/instrument/detector")
        detector["frame_time"] = 0.004
        detector["description"] = "EIGER2"
        detector["pixel_mask"] = np.eye(20, 30, dtype=np.uint32)
    with open_recording(tmp_path / "master.h5") as recording:
        assert len(recording) == 7
        for position in range(7):
            np.testing.assert_array_equal(recording.frame(position).data, FRAMES[position])
        assert (recording.start.frame_time_s, recording.start.detector) == (0.004, "EIGER2")
        np.testing.assert_array_equal(recording.start.pixel_mask, np.eye(20, 30))


def test_virtual_dataset(tmp_path):
    write(tmp_path / "a.h5")
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "a.h5", "frames", FRAMES.shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    with open_recording(tmp_path / "v.h5") as recording:
        np.testing.assert_array_equal(recording.frame(5).data, FRAMES[5])


def test_floating_point_and_big_endian_frames(tmp_path):
    for dtype in ("f4", ">u4", "i2"):
        with open_recording(write(tmp_path / f"{dtype[-2:]}.h5", data=FRAMES.astype(dtype))) as recording:
            data = recording.frame(2).data
            assert data.dtype == np.dtype(dtype).newbyteorder("=")
            np.testing.assert_array_equal(data, FRAMES[2])


def test_a_chunk_that_was_never_written_is_what_hdf5_says(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape = FRAMES.shape
        empty = file.create_dataset("frames", shape, "u2", chunks=(1, *shape[1:]), fillvalue=3, **FILTERS["bslz4"])
        empty[0] = FRAMES[0]
    with open_recording(tmp_path / "a.h5") as recording:
        assert (recording.frame(4).data == 3).all()
        assert (recording.encoded(4).decode().data == 3).all()


def test_a_damaged_chunk_costs_one_frame(tmp_path):
    path = write(tmp_path / "a.h5", **FILTERS["bslz4"])
    with h5py.File(path, "a") as file:
        file["frames"].id.write_direct_chunk((2, 0, 0), b"\xff" * 60)
    with open_recording(path) as recording:
        with pytest.raises(RecordingError, match="frame 2 is damaged"):
            recording.frame(2)
        np.testing.assert_array_equal(recording.frame(3).data, FRAMES[3])


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "empty.h5").write_bytes(b"")
    write(tmp_path / "cut.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:600])
    write(tmp_path / "flat.h5", data=np.zeros((4, 5)))
    write(tmp_path / "zero.h5", data=np.zeros((1, 4, 5)))
    with h5py.File(tmp_path / "zero.h5", "w") as file:
        file.create_dataset("x", (0, 4, 5), "u2", maxshape=(None, 4, 5))
    (tmp_path / "movie.xyz").write_bytes(b"anything" * 100)
    expected = {
        "missing.h5": "no such file",
        "text.h5": "is not an HDF5 file",
        "empty.h5": "is not an HDF5 file",
        ".": "is a folder",
        "movie.xyz": "in no format this program knows",
        "cut.h5": "cannot be opened",
        "flat.h5": "has no 3D dataset",
        "zero.h5": "has no 3D dataset",
    }
    for name, words in expected.items():
        with pytest.raises(RecordingError, match=words) as caught:
            open_recording(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_positions_outside(tmp_path):
    with open_recording(write(tmp_path / "a.h5")) as recording:
        for position in (-1, 7):
            with pytest.raises(IndexError):
                recording.frame(position)


@pytest.mark.shared
def test_the_development_scene(shared_data):
    with open_recording(shared_data / "scene_PQ.h5") as recording:
        start = recording.start
        assert (len(recording), start.width, start.height, start.dtype) == (1600, 288, 288, np.uint16)
        assert (start.pixel_size_A, start.frame_time_s, start.dose_e_per_A2) == (0.358, 0.0025, 80.0)
        assert recording.forwards
        with h5py.File(shared_data / "scene_PQ.h5") as file:
            np.testing.assert_array_equal(recording.frame(1234).data, file["frames"][1234])
