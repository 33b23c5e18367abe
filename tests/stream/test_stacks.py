"""Formats of other programs: the very counts come back, lazily; a missing package is named."""

from __future__ import annotations

import builtins
import json
import struct
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest

from tumble.stream.errors import RecordingError
from tumble.stream.frame import SeriesEnd, SeriesStart
from tumble.stream.readers import open_recording

FRAMES = np.random.default_rng(5).poisson(3.0, (6, 20, 30)).astype(np.uint16)


def check(path: Path, frames: np.ndarray = FRAMES, **said: object) -> None:
    with open_recording(path, series_id=4) as recording:
        start = recording.start
        assert (len(recording), start.height, start.width) == frames.shape
        for name, value in said.items():
            assert getattr(start, name) == pytest.approx(value), name
        for position in (5, 0, 3):
            np.testing.assert_array_equal(recording.frame(position).data, frames[position])
            assert recording.frame(position).data.dtype.isnative
            np.testing.assert_array_equal(recording.encoded(position).decode().data, frames[position])
        events = list(recording.encoded_events())
        assert isinstance(events[0], SeriesStart)
        assert events[-1] == SeriesEnd(4)
        assert len(events) == len(frames) + 2
        with pytest.raises(IndexError):
            recording.frame(len(frames))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.int8])
def test_mrc_stack(tmp_path, dtype):
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(FRAMES.astype(dtype))
        file.voxel_size = 0.358
    check(tmp_path / "a.mrcs", FRAMES.astype(dtype), pixel_size_A=0.358)


def test_mrc_bytes_that_imod_marks_as_unsigned(tmp_path):
    frames = (FRAMES * 20).astype(np.uint8)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(frames.view(np.int8))
    whole = bytearray((tmp_path / "a.mrc").read_bytes())
    whole[152:160] = struct.pack("<ii", 1146047817, 0)
    (tmp_path / "a.mrc").write_bytes(whole)
    check(tmp_path / "a.mrc", frames)


@pytest.mark.parametrize(("kind", "dtype"), [("U08", ">u1"), ("U16", ">u2"), ("U32", ">u4")])
def test_mib(tmp_path, kind, dtype):
    with (tmp_path / "a.mib").open("wb") as file:
        for number, frame in enumerate(FRAMES):
            header = f"MQ1,{number + 1:06d},00384,01,0030,0020,{kind},   1x1,01,2026-11-21 10:00:00.000000,0.001,"
            file.write(header.ljust(384, "\0").encode() + frame.astype(dtype).tobytes())
        file.write(b"MQ1,")  # the next frame was on its way
    check(tmp_path / "a.mib")


@pytest.mark.parametrize(("version", "first"), [(4, 1024), (5, 8192)])
def test_seq(tmp_path, version, first):
    size = FRAMES[0].nbytes
    head = bytearray(first)
    head[:4] = b"\xed\xfe\x00\x00"
    struct.pack_into("<i", head, 28, version)
    struct.pack_into("<9Id", head, 548, 30, 20, 16, 16, size, 100, len(FRAMES), 0, size + 8, 400.0)
    with (tmp_path / "a.seq").open("wb") as file:
        file.write(head)
        for frame in FRAMES:
            file.write(frame.tobytes() + bytes(8))
    check(tmp_path / "a.seq", frame_time_s=0.0025)


def test_velox_emd(tmp_path):
    """Frames along the last axis, metadata as JSON in bytes."""
    facts = {"BinaryResult": {"PixelSize": {"width": "3.58e-11"}}, "Optics": {"AccelerationVoltage": "300000"}}
    text = np.frombuffer(json.dumps(facts).encode().ljust(500, b"\0"), np.uint8)
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["Data/Image/abcd/Data"] = np.moveaxis(FRAMES, 0, -1)
        file["Data/Image/abcd/Metadata"] = np.repeat(text[:, None], 6, axis=1)
    check(tmp_path / "a.emd", pixel_size_A=0.358, voltage_kV=300.0)


def test_berkeley_emd(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["data/movie/data"] = FRAMES
        for name, size in (("dim1", 6), ("dim2", 20), ("dim3", 30)):
            file[f"data/movie/{name}"] = np.arange(size) * 0.0358
            file[f"data/movie/{name}"].attrs["units"] = "[n_m]"
    check(tmp_path / "a.emd", pixel_size_A=0.358)


@pytest.mark.parametrize("manner", ["pages", "imagej", "deflate"])
def test_tiff(tmp_path, manner):
    tifffile = pytest.importorskip("tifffile")
    if manner == "deflate":
        pytest.importorskip("imagecodecs")
    if manner == "imagej":
        tifffile.imwrite(tmp_path / "a.tif", FRAMES, imagej=True)
    else:
        compression = "zlib" if manner == "deflate" else None
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for frame in FRAMES:
                file.write(frame, compression=compression, contiguous=False)
    check(tmp_path / "a.tif")


def test_eer(tmp_path):
    """Electron events with run lengths of 7 bits and 4 bits of sub-pixel place, two pages by hand."""
    pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    frames = np.zeros((2, 4096, 4096), np.uint8)  # the decoder takes no smaller ones
    frames[0, 0, 3], frames[0, 9, 9], frames[:, 4095, 4095] = 1, 1, 1
    (tmp_path / "a.eer").write_bytes(tiff_of_one_strip_each([eer_page(frame) for frame in frames], 4096))
    with open_recording(tmp_path / "a.eer") as recording:
        assert len(recording) == 2
        for position in range(2):
            np.testing.assert_array_equal(recording.frame(position).data, frames[position])


def tiff_of_one_strip_each(strips: list[bytes], side: int) -> bytes:
    """A BigTIFF file of compression 65001 with the mark of EER, written by hand because nothing writes it."""
    mark = b"<metadata></metadata>"
    whole = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + mark)
    link = 8
    for strip in strips:
        place = len(whole)
        whole += strip
        struct.pack_into("<Q", whole, link, len(whole))
        values = {256: side, 257: side, 258: 8, 259: 65001, 262: 1, 273: place, 277: 1, 278: side, 279: len(strip)}
        whole += struct.pack("<Q", len(values) + 1)
        for tag, value in values.items():
            whole += struct.pack("<HHQQ", tag, 16, 1, value)
        whole += struct.pack("<HHQQ", 65001, 7, len(mark), 16)
        link = len(whole)
        whole += bytes(8)
    return bytes(whole)


def eer_page(frame: np.ndarray) -> bytes:
    """EER compression 65001: every electron is a run of empty pixels (7 bits, 127 goes on) and a place (4 bits)."""
    bits, last = "", -1
    for place in [*np.flatnonzero(frame), frame.size]:
        run = int(place) - last - 1
        while run >= 127:
            bits += f"{127:07b}"[::-1]
            run -= 127
        bits += f"{run:07b}"[::-1] + "0000"
        last = int(place)
    bits += "0" * (-len(bits) % 8 + 16)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def test_tvips_through_rosettasciio(tmp_path):
    tvips = pytest.importorskip("rsciio.tvips")
    axes = (("t", "", True, 6), ("y", "nm", False, 20), ("x", "nm", False, 30))
    scales = [
        {"name": name, "units": units, "scale": 0.0358, "offset": 0.0, "navigate": navigate, "size": size}
        for name, units, navigate, size in axes
    ]
    signal = {"data": FRAMES, "axes": scales, "metadata": {"General": {}, "Signal": {}}, "original_metadata": {}}
    signal["attributes"] = {"_lazy": False}
    tvips.file_writer(str(tmp_path / "a_000.tvips"), signal)
    check(tmp_path / "a_000.tvips")


def test_ser_through_rosettasciio(tmp_path):
    """The series format of TIA, written by hand: little-endian header, places of the images, the images."""
    pytest.importorskip("rsciio")
    images = [
        struct.pack("<ddiddihii", 0, 3.58e-11, 0, 0, 3.58e-11, 0, 2, 30, 20) + frame[::-1].tobytes()
        for frame in FRAMES  # rows run upwards
    ]
    dimension = struct.pack("<iddii", len(FRAMES), 0.0, 1.0, 0, 0) + struct.pack("<i", 0)
    first = 30 + len(dimension)
    places = [first + 8 * len(FRAMES) + number * len(images[0]) for number in range(len(FRAMES))]
    tags = [places[-1] + len(images[0]) + 8 * number for number in range(len(FRAMES))]
    with (tmp_path / "a.ser").open("wb") as file:
        file.write(struct.pack("<hhhiiiiii", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 6, 6, first, 1) + dimension)
        file.write(struct.pack(f"<{2 * len(FRAMES)}i", *places, *tags) + b"".join(images))
        file.write(b"".join(struct.pack("<hhi", 0x4152, 0, number) for number in range(len(FRAMES))))
    check(tmp_path / "a.ser", pixel_size_A=0.358)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.split(".")[0] in ("tifffile", "rsciio"):
            raise ImportError(name)
        return real(name, *rest, **named)

    (tmp_path / "a.tif").write_bytes(b"II*\x00" + bytes(100))
    (tmp_path / "a.dm4").write_bytes(b"\x00\x00\x00\x04" + bytes(100))
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecordingError, match=r"reading TIFF needs .*pip install 'tumble-em\[tiff\]'"):
        open_recording(tmp_path / "a.tif")
    with pytest.raises(RecordingError, match=r"reading DM4 needs .*pip install 'tumble-em\[vendor\]'"):
        open_recording(tmp_path / "a.dm4")


def test_damaged_files_are_one_line(tmp_path):
    seq = b"\xed\xfe\x00\x00" + bytes(2000)
    mib = b"MQ1,000001,00384,01,0030,0020,R64,".ljust(2000, b"\0")
    contents = {
        "a.mrc": (b"not an MRC header" * 100, "holds no frames"),
        "short.mrc": (b"x", "cannot be read as MRC"),
        "a.seq": (seq, "uncompressed and monochrome"),
        "b.seq": (seq[:500], "truncated"),
        "a.mib": (mib, "R64"),
        "b.mib": (b"MQ1,000001", "damaged"),
        "c.mib": (mib.replace(b"R64", b"U16").replace(b"0030", b"9999"), "no whole frame"),
    }
    for name, (content, words) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=words) as caught:
            open_recording(tmp_path / name)
        assert "\n" not in str(caught.value)
