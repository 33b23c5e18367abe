"""Small twins of the studies of known poses, on data made here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import h5py
import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_total_variation_invents_no_atoms_where_tilts_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    _load("tilt_study").particle([8], [90.0], n=34, atoms=55)
    found = {line["way"]: line for line in _lines(capsys)}
    assert found["total variation"]["precision"] > 0.95 > found["iterative"]["precision"]
    assert min(line["recall"] for line in found.values()) > 0.6


def test_elements_of_a_core_in_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = np.arange(-2, 3) * 2.7
    atoms = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    names = np.where(np.linalg.norm(atoms, axis=1) < 5.0, "Pd", "Pt")
    rows = [f"{name} {x:.3f} {y:.3f} {z:.3f}" for name, (x, y, z) in zip(names, atoms, strict=True)]
    path = tmp_path / "alloy.xyz"
    path.write_text("\n".join([str(len(rows)), "", *rows, ""]), encoding="utf-8")
    _load("tilt_study").elements(path, 0.6, None)
    lines = _lines(capsys)
    assert len(lines) == 8
    assert min(line["right"] for line in lines if line["positions"] == "true") > 0.9


def _session(folder: Path, film: np.ndarray, tilts: np.ndarray) -> None:
    """The film [x, y, z] as `tumble replay --tilt-axis 0` leaves maps."""
    cube = np.zeros((32, 32, 32), np.float32)
    cube[1:, 1:, 10:22] = film.transpose(2, 0, 1)
    (folder / "particles" / "P001").mkdir(parents=True)
    for name in ("map", "unfiltered", "half1", "half2"):
        mrcfile.write(folder / "particles" / "P001" / f"{name}.mrc", cube)
    half = np.radians(tilts) / 2
    rows = [f"{np.cos(a)},{np.sin(a)},0,0,6,15" for a in half]
    (folder / "particles" / "P001" / "poses.csv").write_text("\n".join(["qw,qx,qy,qz,x_px,y_px", *rows, ""]))


def test_a_film_wider_than_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Projected by other means (scipy), in the axes of the measured file."""
    rng = np.random.default_rng(1)
    film = np.zeros((91, 12, 91))  # [x, y, z]
    film[:, :, 40:51] = rng.random((91, 12, 11)) > 0.985
    film = 20 * gaussian_filter(film, (1.2, 1.2, 1.2))
    tilts, width = np.linspace(-60, 57, 27), slice(30, 61)
    images = [rotate(film, t, axes=(0, 2), reshape=False, order=3).sum(axis=2)[width] for t in tilts]
    path = tmp_path / "film.h5"
    with h5py.File(path, "w") as file:
        file["projections"], file["tilt_deg"] = np.array(images, np.float32), tilts.astype(np.float32)
        file["published_map"] = np.maximum(film[width, :, width], 0).astype(np.float32)
    _load("ta_film_study").study(path, 3, 1.0, ("iterative",))
    lines = {line.get("used", "warm"): line for line in _lines(capsys) if line["way"] == "iterative"}
    assert lines["all"]["whole"]["R_all"] < 0.02
    assert lines["four of five"]["whole"]["R_left"] < 0.06
    assert lines["all"]["cc_film"] > 0.85
    _session(tmp_path, np.maximum(film[width, :, width], 0), tilts)
    _load("ta_film_study").compare(path, tmp_path)
    published, *maps = _lines(capsys)
    assert [line["cc_box"] for line in maps] == [1, 1, 1, 1]
    assert maps[0]["R_all"] == maps[0]["R_all_own"] == published["R_all"]
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    _load("ta_film_folds").study(path, "iterative", 1.0, 30, 1)
    told = {(line["map"], line["tilts"]): line for line in _lines(capsys) if "map" in line}
    unseen = {
        name: line["R_whole"] for (name, tilts), line in told.items() if tilts.startswith("left") and "R_whole" in line
    }
    assert max(unseen.values()) < 0.12
    assert unseen["published, rebuilt"] > told["published, rebuilt", "seen"]["R_whole"]
    assert told["published", "seen"]["R_box_free"] <= told["published", "seen"]["R_box"]
    _load("ta_film_folds").choose(path, [(3.0, 1.0), (3.0, 0.5)], "iterative", 1.0, 30, 1)
    thick, thin, last = _lines(capsys)
    assert thin["R_whole"] < thick["R_whole"]
    assert (last["thick"], last["unseen"]) == (0.5, "left out")
