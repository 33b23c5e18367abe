"""The session folder: its files and their columns are a contract."""

from __future__ import annotations

import csv
import json

import ase.io
import mrcfile
import numpy as np
import pytest

from tumble.daemon.config import Settings
from tumble.daemon.errors import UsageError
from tumble.daemon.particle_files import ParticleFolder, atoms_text, coverage_text, plain, write_atomically, write_map
from tumble.daemon.session import Session, default_folder, prepare
from tumble.daemon.snapshot import SCHEMA_VERSION, ParticleView, Snapshot, StreamHealth, from_json
from tumble.recon.records import Atom, ParticleResult, ParticleStatus, PoseRow


def make_result() -> ParticleResult:
    status = ParticleStatus(
        1, "DONE", 3, 2, {"pose": 1}, 0, 3.92, float("nan"), 1.01, (0.1, 0.2), (0.9, 0.1), np.array([3, 0], np.int32),
        None, 2, {},
    )  # fmt: skip
    volume = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    atoms = (Atom("Pt", (1.0, -2.5, 0.125), 0.75), Atom("Au", (0.0, 0.0, 0.0), 1.0))
    poses = (
        PoseRow(4, 0.01, (1.0, 0.0, 0.0, 0.0), (20.25, 30.5), -3.5, True),
        PoseRow(5, 0.0125, (0.0, 1.0, 0.0, 0.0), (1.0, 2.0), 0.0, False),
    )
    return ParticleResult(status, volume, volume + 1, volume + 2, 0.358, atoms, poses, {"gap": float("inf")})


def test_the_files_of_a_particle(tmp_path):
    result = make_result()
    ParticleFolder(tmp_path, "tumble test", np.eye(3)[:2]).write(result.status, result)
    with mrcfile.open(tmp_path / "half2.mrc") as file:
        assert np.array_equal(file.data, result.half2)
        assert file.voxel_size.z == pytest.approx(0.358)
        assert file.is_volume()
    atoms = ase.io.read(tmp_path / "atoms.xyz")
    assert atoms.get_chemical_symbols() == ["Pt", "Au"]
    assert np.allclose(atoms.positions[0], (1.0, -2.5, 0.125))
    assert np.allclose(atoms.arrays["confidence"], (0.75, 1.0))
    rows = list(csv.DictReader((tmp_path / "poses.csv").read_text().splitlines()))
    assert list(rows[0]) == ["frame", "time_s", "qw", "qx", "qy", "qz", "x_px", "y_px", "score", "used"]
    assert [row["used"] for row in rows] == ["1", "0"]
    assert float(rows[0]["x_px"]) == 20.25
    assert (tmp_path / "fsc.csv").read_text().splitlines()[0] == "k_per_A,fsc"
    assert (tmp_path / "coverage.csv").read_text().splitlines()[1] == "0,1.000000,0.000000,0.000000,3"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rotation_per_frame_deg"] is None
    assert summary["gap"] is None
    assert summary["lattice_constant_A"] == 3.92


def test_equal_maps_make_equal_files(tmp_path, monkeypatch):
    volume = np.ones((4, 4, 4), np.float32)
    write_map(tmp_path / "a.mrc", volume, 0.5, "x")
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_map(tmp_path / "b.mrc", volume, 0.5, "x")
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()
    assert mrcfile.validate(tmp_path / "a.mrc")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "map.mrc"
    path.write_text("old")

    def write(beside) -> None:
        beside.write_text("half of the n")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.glob("*map*")] == ["map.mrc"]


def test_no_atoms_is_a_valid_file():
    assert atoms_text(()).startswith("0\n")


def test_coverage_without_directions():
    assert coverage_text(np.array([5], np.int32), None) == "cell,views\n0,5\n"


def test_what_json_cannot_carry():
    assert plain({1: np.float32("nan"), "a": (np.int64(3), np.zeros(2))}) == {"1": None, "a": [3, [0.0, 0.0]]}


def test_a_folder_in_use_is_refused_and_overwriting_spares_strangers(tmp_path):
    folder = tmp_path / "session"
    prepare(folder, overwrite=False)
    (folder / "session.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    (folder / "particles" / "P001").mkdir(parents=True)
    with pytest.raises(UsageError, match="--overwrite"):
        prepare(folder, overwrite=False)
    prepare(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot use"):
        prepare(tmp_path / "file", overwrite=True)


def test_default_folders_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_folder("demo")
    first.mkdir(parents=True)
    assert default_folder("demo") != first


def test_session_json_holds_the_configuration_from_the_beginning(tmp_path):
    with Session(tmp_path, Settings.model_validate({"reconstruction": {"element": "Pt"}}), "run"):
        facts = json.loads((tmp_path / "session.json").read_text())
    assert facts["config"]["reconstruction"]["element"] == "Pt"
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["phase"] == "WAITING"


def test_poses_that_are_final_stay_in_front(tmp_path):
    from dataclasses import replace

    result = make_result()
    files = ParticleFolder(tmp_path, "tumble test", None)
    first, second = result.poses
    files.write(result.status, result)
    files.settle((first,))
    files.write(result.status, replace(result, poses=(replace(second, score=9.0),)))
    files.settle((second,))
    files.write(result.status, replace(result, poses=()))
    files.close()
    rows = list(csv.DictReader((tmp_path / "poses.csv").read_text().splitlines()))
    assert [(row["frame"], row["score"]) for row in rows] == [("4", "-3.500"), ("5", "0.000")]
    assert not list(tmp_path.glob(".poses*"))


def test_the_timeline_repeats_no_pictures(tmp_path):
    def snapshot(sequence: int, shade: int) -> Snapshot:
        view = ParticleView("P001", "MAPPING", (1.0, 2.0), 20.0, slice_xy=(bytes((shade,)),))
        return Snapshot(SCHEMA_VERSION, "0", sequence, 0.0, 0.0, "RUNNING", "here", StreamHealth(), (view,))

    with Session(tmp_path, Settings(), "test") as session:
        for sequence, shade in enumerate((1, 1, 2, 2)):
            session.timeline(snapshot(sequence, shade))
        session.timeline(snapshot(4, 2), whole=True)
    lines = [from_json(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
    assert [line.particles[0].slice_xy for line in lines] == [(b"\1",), (), (b"\2",), (), (b"\2",)]
