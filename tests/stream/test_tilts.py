"""Tilt files as programs of the field write them, and how mistakes in them are told."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumble.stream.errors import RecordingError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.poses import tilt_deg, tilted
from tumble.stream.tilts import read_tilts, with_poses

ANGLES = [-63.0005, -2.44e-3, 0.0, 55.9]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "real"


def degrees(tilts):
    return [tilt_deg(tilts[number]) for number in sorted(tilts)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.rawtlt", " -63.0005\n  -2.44e-3\n\n   0.00\n  55.9\n"),
        ("a.tlt", "# from the goniometer\r\n-63.0005\r\n-0.00244 # here\r\n0\r\n55.9"),
        ("a.csv", "frame,Tilt_deg,dose\n0,-63.0005,1\n1,-0.00244,1\n2,0,1\n3,55.9,1\n"),
        ("b.csv", "\ufeffangle\n-63.0005\n-0.00244\n0\n55.9\n"),
    ],
)
def test_angles_in_text(tmp_path: Path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    tilts = read_tilts(tmp_path / name)
    assert list(tilts) == [0, 1, 2, 3]
    np.testing.assert_allclose(degrees(tilts), ANGLES, atol=1e-9)


def test_poses_and_frame_numbers_in_a_table(tmp_path: Path):
    path = tmp_path / "poses.csv"
    path.write_text("frame,time_s,qw,qx,qy,qz,used\n4,0,2,0,0,0,1\n9,0.1,0,0,0.6,-0.8,1\n")
    assert read_tilts(path) == {4: (1.0, 0.0, 0.0, 0.0), 9: (0.0, 0.0, 0.6, -0.8)}


@given(st.lists(st.floats(-180, 180, exclude_min=True), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, angles):
    path = tmp_path_factory.mktemp("t") / "a.tlt"
    path.write_text("".join(f"{angle!r}\n" for angle in angles))
    np.testing.assert_allclose(degrees(read_tilts(path)), angles, atol=1e-9)


def test_datasets(tmp_path: Path):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["scan/tilt_deg"] = np.array(ANGLES, np.float32)
        file["scan/dose"] = np.ones(4)
        file["q"] = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float64)
        file["turn"] = np.radians(ANGLES)
        file["turn"].attrs["units"] = "rad"
    np.testing.assert_allclose(degrees(read_tilts(path)), ANGLES, atol=1e-5)
    np.testing.assert_allclose(degrees(read_tilts(path, "turn")), ANGLES, atol=1e-9)
    assert read_tilts(path, "q")[1] == (0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tlt", "1\ntwo\n", "line 2: 'two' is no angle"),
        ("a.tlt", "1\n400\n", "line 2: '400' is no angle"),
        ("a.tlt", "nan\n", "line 1"),
        ("a.tlt", "# nothing\n", "no tilt angle"),
        ("a.csv", "time,dose\n1,2\n", "name the columns"),
        ("a.csv", "frame,angle\n0,1\n0,2\n", "line 3: frame 0 is there twice"),
        ("a.csv", "angle\nhigh\n", "line 2: no pose"),
        ("a.csv", "qw,qx,qy,qz\n0,0,0,0\n", "line 2: no pose"),
        ("a.csv", "qw,qx,qy,qz\n1,0\n", "line 2: no pose"),
        ("a.csv", "", "name the columns"),
        ("a.tlt", "\udcff", "no text"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, name, text, words):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecordingError, match=words) as caught:
        read_tilts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_datasets_that_are_not_there(tmp_path: Path):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.ones((2, 3, 3))
        file["dose"] = np.array([1.0, math.nan])
    with pytest.raises(RecordingError, match=r"called tilt or angle.* it has dose"):
        read_tilts(path)
    with pytest.raises(RecordingError, match="no dataset 'tilts'"):
        read_tilts(path, "tilts")
    with pytest.raises(RecordingError, match="dataset /dose: entry 1 is no pose"):
        read_tilts(path, "dose")
    with pytest.raises(RecordingError, match="no such file"):
        read_tilts(tmp_path / "none.tlt")


def test_poses_are_given_to_frames_by_their_number():
    frames = [Frame(1, index, np.ones((2, 2)), 0.0) for index in (3, 5)]
    start, third, fifth, end = with_poses([SeriesStart(1), *frames, SeriesEnd(1)], {5: tilted(10.0)})
    assert (start.series_id, end.series_id, third.pose, fifth.pose) == (1, 1, None, tilted(10.0))


@pytest.mark.shared
def test_the_angles_of_a_measured_series():
    path = SHARED / "ta_film_area10.h5"
    if not path.exists():
        pytest.skip("no development data")
    angles = degrees(read_tilts(path))
    assert (len(angles), round(min(angles), 2), round(max(angles), 2)) == (46, -63.0, 55.9)
