"""Tilt series on the live path: poses over the socket into session folder and recording, from files, and wrong ones."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
from scipy.spatial import cKDTree

from tumble.daemon.config import Settings, load
from tumble.daemon.errors import UsageError
from tumble.daemon.options import element_settings
from tumble.daemon.parts import RealParts
from tumble.daemon.tilt_options import TiltOptions, replayed_tilts
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.poses import tilt_deg, tilted
from tumble.stream.readers import open_recording

ANGLES = np.arange(-50.0, 51.0, 20.0)
PIXEL_A = 0.7


BALLS = np.array([[5.0, -4, 2], [-6, 3, 1], [1, 6, -5], [-2, -7, 4]])


def images(balls=BALLS, heights=(1, 1, 1, 1), angles=ANGLES, shape=(24, 28), spread=4.0) -> np.ndarray:
    """Projections (m, h, w) float32 of a few balls; the axis is along y."""
    rows, columns = np.arange(shape[0])[:, None] - shape[0] // 2, np.arange(shape[1]) - shape[1] // 2
    made = []
    for angle in np.radians(angles):
        x, y = balls[:, 0] * np.cos(angle) + balls[:, 2] * np.sin(angle), balls[:, 1]
        places = zip(x, y, heights, strict=True)
        made.append(sum(h * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / spread) for a, b, h in places))
    return np.array(made, np.float32)


def events(stack=None, angles=ANGLES, **of_start):
    stack = images() if stack is None else stack
    _, height, width = stack.shape
    yield SeriesStart(
        1, width=width, height=height, dtype=np.dtype(np.float32), number_of_images=len(stack), pixel_size_A=PIXEL_A,
        user_data={"tumble": {"pixel_size_angstrom": PIXEL_A}}, **of_start,
    )  # fmt: skip
    for index, (image, angle) in enumerate(zip(stack, angles, strict=True)):
        yield Frame(1, index, image, index * 0.1, None if of_start else tilted(angle))
    yield SeriesEnd(1)


def parts(**tilts):
    return RealParts(Settings.model_validate({"tilts": tilts, "reconstruction": {"element": "Pt", "device": "cpu"}}))


def poses_of(folder: Path) -> np.ndarray:
    with (folder / "particles" / "P001" / "poses.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in ("qw", "qx", "qy", "qz")] for row in rows])


def test_poses_come_with_the_stream_and_stay_in_the_recording(publish, run_service):
    with publish(events()) as uri:
        done = run_service(uri, parts(poses="stream", align=False), record=True, timeout_s=60.0)
    assert done.code == 0, done.text
    assert "received 6 = used 6" in done.text
    folder = done.folder / "particles" / "P001"
    assert {"half1.mrc", "half2.mrc", "unfiltered.mrc", "fsc.csv", "coverage.csv"} < {
        path.name for path in folder.iterdir()
    }
    assert mrcfile.read(folder / "map.mrc").shape == (28, 28, 28)
    half = np.radians(ANGLES) / 2
    np.testing.assert_allclose(poses_of(done.folder)[:, [0, 2]], np.stack([np.cos(half), np.sin(half)], 1), atol=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["verdict"], summary["tilts"]["wedge_deg"]) == ("PLATEAU", 80)
    with open_recording(done.folder / "frames.h5") as recording:
        recorded = [tilt_deg(recording.pose(position)) for position in range(len(recording))]
    np.testing.assert_allclose(recorded, ANGLES, atol=1e-9)


@pytest.mark.parametrize("source", ["file", "goniometer"])
def test_the_same_map_from_a_tilt_file_and_from_the_goniometer(publish, run_service, tmp_path, source):
    angles = tmp_path / "angles.tlt"
    angles.write_text("".join(f"{angle}\n" for angle in ANGLES))
    if source == "file":
        given, start = parts(poses="file", file=angles, align=False), {"goniometer_deg": (0.0, 1.0)}
    else:
        given, start = parts(poses="stream", align=False), {"goniometer_deg": (-50.0, 20.0)}
    with publish(events(**start)) as uri:
        done = run_service(uri, given, timeout_s=60.0)
    assert done.code == 0, done.text
    np.testing.assert_allclose(np.degrees(2 * np.arcsin(poses_of(done.folder)[:, 2])), ANGLES, atol=1e-3)


def test_every_atom_of_an_alloy_has_an_element(publish, run_service):
    """A core of palladium in a shell of platinum, asked for as on the command line."""
    line = 4.0 * np.arange(-2, 3)  # px, as far apart as atoms of these metals are
    atoms = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    core = np.abs(atoms).max(axis=1) < 5
    angles = np.arange(-70.0, 71.0, 10.0)
    stack = images(atoms, np.where(core, 0.41, 1.0), angles, (36, 36), 1.5)
    stack += np.random.default_rng(1).normal(0, 0.02 * stack.max(), stack.shape).astype(np.float32)
    known = {
        "reconstruction": {**element_settings("Pt,Pd"), "device": "cpu"},
        "tilts": {"poses": "stream", "align": False},
    }
    with publish(events(stack, angles)) as uri:
        done = run_service(uri, RealParts(load(None, known)), timeout_s=60.0)
    assert done.code == 0, done.text
    folder = done.folder / "particles" / "P001"
    head, *rows = (folder / "atoms.xyz").read_text().splitlines()[1:]
    assert ":element_confidence:R:1" in head
    found = np.array([[float(word) for word in row.split()[1:]] for row in rows])
    names = np.array([row.split()[0] for row in rows])
    distance, index = cKDTree(atoms * PIXEL_A).query(found[:, :3])
    assert (len(rows) - len(atoms)) / len(atoms) == pytest.approx(0, abs=0.2)
    assert distance.max() < 0.9
    assert (names == np.where(core, "Pd", "Pt")[index]).mean() > 0.97
    assert found[:, 5].min() >= 0.5
    told = json.loads((folder / "summary.json").read_text())["elements"]
    assert told == {"Pd": (names == "Pd").sum(), "Pt": (names == "Pt").sum()}


def test_frames_without_a_pose_are_counted(publish, run_service):
    some = [replace(event, pose=None) if isinstance(event, Frame) and event.index == 2 else event for event in events()]
    with publish(some) as uri:
        done = run_service(uri, parts(poses="stream", align=False), timeout_s=60.0)
    assert "used 5 + rejected 1 (no pose 1)" in done.text


def test_a_box_that_does_not_fit_is_a_wrong_setting(publish, run_service):
    with publish(events()) as uri:
        done = run_service(uri, parts(poses="stream", box=(0, 0, 40, 24)))
    assert done.code == 2
    assert "give --tilt-box X,Y,WIDTH,HEIGHT" in done.text


def test_settings_of_the_command_line(tmp_path):
    assert element_settings("Pt") == {"element": "Pt"}
    assert load(None, {"reconstruction": element_settings("Pt, Fe")}).reconstruction.elements == ("Fe", "Pt")
    for wrong, words in (("Pt,Px", "Px is no element"), ("Pt,Pt", "named twice")):
        with pytest.raises(UsageError, match=words):
            load(None, {"reconstruction": element_settings(wrong)})
    chosen = TiltOptions(tilts="a.tlt", tilt_axis=0.0, tilt_box="1,2,30,40").settings()
    assert load(None, {"tilts": chosen}).tilts.box == (1, 2, 30, 40)
    assert (chosen["poses"], TiltOptions().settings()["poses"]) == ("file", None)
    matched = [load(None, {"tilts": TiltOptions(tilt_align=how).settings()}).tilts.align for how in (None, True, False)]
    assert matched == [True, True, False]
    with pytest.raises(UsageError, match="--tilt-box 1,2: give four whole numbers"):
        TiltOptions(tilt_box="1,2").settings()
    with pytest.raises(UsageError, match="but no file: give it with --tilts"):
        parts(poses="file")
    with pytest.raises(UsageError, match="no such file with tilt angles"):
        parts(poses="file", file=tmp_path / "none.tlt")


def test_angles_of_a_replay_are_a_file_or_a_dataset(tmp_path):
    movie, angles = tmp_path / "tilts.h5", tmp_path / "angles.tlt"
    with h5py.File(movie, "w") as file:
        file["shown"], file["map"], file["angle"] = images(), np.zeros((40, 40, 40), np.float32), ANGLES
    angles.write_text("1\n2\n")
    poses, dataset = replayed_tilts(movie, "angle", None)
    assert (len(poses), dataset) == (6, "shown")  # not the map, which is larger
    assert replayed_tilts(movie, None, "map") == (None, "map")
    for tilts, words in (
        (str(angles), "has 2 angles, but .* has 40 frames"),
        ("angles", "no dataset 'angles'"),
        (str(tmp_path / "none.tlt"), "no dataset"),
    ):
        with pytest.raises(UsageError, match=words):
            replayed_tilts(movie, tilts, None)
    with pytest.raises(UsageError, match="no such file with tilt angles: none"):
        replayed_tilts(angles, "none", None)


@pytest.mark.slow
def test_replay_on_the_command_line(tmp_path):
    movie = tmp_path / "tilts.h5"
    with h5py.File(movie, "w") as file:
        file["shown"], file["angle"] = images().transpose(0, 2, 1), ANGLES
    words = ["--tilts", "angle", "--tilt-axis", "0", "--pixel-size", "0.7", "--speed", "max", "--headless"]
    done = subprocess.run(
        [sys.executable, "-m", "tumble", "replay", str(movie), *words, "--session", str(tmp_path / "s")],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "P001 CONTINUE: next tilt" in done.stdout
    assert json.loads((tmp_path / "s" / "particles" / "P001" / "summary.json").read_text())["frames_used"] == 6
