"""Atoms of an alloy: dim ones are not taken for noise, ringing not for atoms, and each has an element."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tumble.recon.alloy import DARK_FIELD, counted, named, select
from tumble.recon.atoms import Peaks, select_atoms
from tumble.recon.device import cpu
from tumble.recon.kinds import FCC, Lattice
from tumble.recon.maps import SolvedMap
from tumble.recon.output import publish
from tumble.recon.records import Observation
from tumble.recon.symbols import atomic_number, lightest_first
from tumble.recon.tilt_series import TiltOptions, TiltReconstruction
from tumble.stream.simulator.crystal import read_structure

from .tilting import core_in_shell, density, tilt_images

PLATINUM = Lattice(FCC, 3.92)
ALLOY = ("Pd", "Pt")
LIGHT = (46 / 78) ** DARK_FIELD  # 0.41
PIXEL_A = 0.6


def right(atoms, truth_A, heavy, symbols=ALLOY):
    """Share of the true atoms that were found, share of those with the right element, share of atoms that are none."""
    found = np.array([atom.position_A for atom in atoms])
    names = np.array([atom.element for atom in atoms])
    distance, index = cKDTree(found).query(truth_A)
    near = distance < 0.7
    spurious = cKDTree(truth_A).query(found)[0] > 0.7
    same = names[index[near]] == np.where(heavy, symbols[1], symbols[0])[near]
    return near.mean(), same.mean(), spurious.mean()


def test_elements_are_put_in_order_and_wrong_ones_refused():
    assert lightest_first(["Pt", "Fe", "Pd"]) == ("Fe", "Pd", "Pt")
    names = ("H", "Ag", "Xe", "La", "Lu", "Hf", "Pt", "U")
    assert [atomic_number(name) for name in names] == [1, 47, 54, 57, 71, 72, 78, 92]
    for wrong, words in ((["Pt", "Xx"], "Xx is no element"), (["Pt", "Pd", "Pt"], "Pt is named twice")):
        with pytest.raises(ValueError, match=words):
            lightest_first(wrong)


def test_dim_atoms_stay_and_ringing_goes():
    line = np.arange(-3, 4) * 2.8
    atoms = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    rng = np.random.default_rng(5)
    heavy = rng.random(len(atoms)) < 0.4
    heights = np.where(heavy, 1.0, LIGHT) * rng.normal(1, 0.08, len(atoms))
    far = 16 + 6.0 * np.arange(20)[:, None] * [1, 0, 0]  # noise as high as the dim ones, beside the particle
    places = [atoms, atoms[heavy] + (1.4, 0, 0), rng.uniform(-9, 9, (200, 3)), far, np.add(far, (2.8, 0, 0))]
    low = [np.full(heavy.sum(), 0.3), rng.uniform(0, 0.1, 200), np.full(40, LIGHT)]
    values = np.concatenate([heights, *low])
    order = np.argsort(-values)
    peaks = Peaks(np.concatenate(places)[order], values[order])
    found, confidence = select(peaks, 2.8, ALLOY, DARK_FIELD)
    assert cKDTree(found).query(atoms)[0].max() < 1e-9
    assert len(found) == len(atoms)
    assert confidence.min() > 0.5
    assert len(select_atoms(peaks, 2.8)[0]) < 0.8 * len(atoms)
    for element in ((), ("Pt",)):
        np.testing.assert_array_equal(select(peaks, 2.8, element, DARK_FIELD)[0], select_atoms(peaks, 2.8)[0])


def test_a_published_map_names_its_atoms():
    atoms, heavy = core_in_shell(150)
    volume = density(atoms[heavy], 48) + 0.69 * density(atoms[~heavy], 48)
    volume = np.asarray(volume, np.float32)
    made = publish(SolvedMap(volume, volume, volume, np.ones(25)), PIXEL_A, PLATINUM, None, cpu(1), ALLOY)
    found, same, spurious = right(made.atoms, atoms - atoms.mean(axis=0), heavy)
    assert (found, same, spurious) == (1, 1, 0)
    assert counted(made.atoms) == {"Pd": (~heavy).sum(), "Pt": heavy.sum()}
    plain = publish(SolvedMap(volume, volume, volume, np.ones(25)), PIXEL_A, PLATINUM, "Pt", cpu(1))
    assert ({atom.element for atom in plain.atoms}, counted(plain.atoms)) == ({"Pt"}, {})


def test_no_element_is_claimed_where_nothing_tells():
    atoms, _ = core_in_shell(150)
    volume = np.asarray(density(atoms, 48), np.float32)
    for places, elements, said in ((atoms[:5], ALLOY, "X"), (atoms, ALLOY, "X"), (atoms, ("Pt",), "Pt")):
        names, sure = named(volume, PIXEL_A, places, 2.8, elements, DARK_FIELD)
        assert set(names) == {said}
        assert np.isnan(sure).all()


def series(truth_A, heavy, shape, angles, noise):
    """What a tilt series of an alloy finds: dark field, the noise a share of the brightest pixel."""
    images, poses = tilt_images(truth_A[heavy], angles, shape=shape)
    images += LIGHT * tilt_images(truth_A[~heavy], angles, shape=shape)[0]
    images += np.random.default_rng(1).normal(0, noise * images.max(), images.shape).astype(np.float32)
    made = TiltReconstruction(1, PIXEL_A, TiltOptions(align=False, elements=ALLOY), cpu())
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        made.push(Observation(1, number, 0.0, image, (0, 0), (0.0, 0.0), 0.0, pose=tuple(pose)))
    made.finish()
    return made


def ball(shared_data, name, tilts):
    """A ball out of the middle of a measured particle."""
    crystal = read_structure(shared_data / "real" / f"{name}.xyz", diameter_A=26)
    heavy = np.array(crystal.elements) == "Pt"
    made = series(crystal.positions_A, heavy, (56, 56), np.linspace(-70, 70, tilts), 0.03)
    return right(made.result().atoms, crystal.positions_A, heavy), heavy.mean(), made.status()


@pytest.mark.shared
def test_a_ball_of_a_measured_particle_with_little_platinum(shared_data):
    (found, same, spurious), share, status = ball(shared_data, "pdpt_epb", 24)
    assert share < 0.03
    assert found > 0.8
    assert same > 0.98
    assert spurious < 0.02
    assert set(status.elements) == {"Pd", "Pt"}


@pytest.mark.shared
def test_a_ball_of_a_measured_particle_without_platinum(shared_data):
    _, share, status = ball(shared_data, "pdpt_to", 12)
    assert share == 0
    assert status.elements == {}
    assert status.note == "Pd and Pt cannot be told apart: atoms are all of one brightness, or too few"
