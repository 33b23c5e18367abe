"""The rule of trust: right pairs pass, every sign of a wrong map is named, what was never measured is no evidence."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from tumble.recon.compare import GAUGES
from tumble.recon.coverage import CELLS, view_counts
from tumble.recon.records import Trust
from tumble.recon.rotations import C2Z, equivalents, from_matrix, from_rotation_vector, multiply, random_rotations
from tumble.recon.trust import Account, compare_accounts, judge, unseen_share

NEIGHBOUR_A = 3.95 / np.sqrt(2)
GOOD = Trust(
    None, frames=800, agreement=0.997, gap=0.06, agreement_rms_A=0.1, pose_agreement=0.99, upheld=1.0,
    second_margin=8.0, branch_margin=15.0, likelihood=250.0, used_share=0.99, lattice_rms_A=0.06, packing=1.0,
    vacuum_share=0.0, shape=0.98, unseen_share=0.1, mixed_share=0.0,
    weakest_shell=0.6,
)  # fmt: skip


@pytest.fixture(scope="module")
def pair(synthetic: ModuleType) -> tuple[Account, Account]:
    """Two accounts of one crystal in different gauges and hands, that share 300 frames."""
    rng = np.random.default_rng(3)
    atoms, gauge = synthetic.fcc_crystal(3.95, 21.0), GAUGES[31]  # another hand
    poses = random_rotations(500, rng)
    number = np.arange(500)
    # first = -turn second: the same image needs C2Z on the pose of the other hand
    other = multiply(multiply(C2Z, poses), from_matrix(-gauge))
    shaken = (atoms + 0.05 * rng.normal(size=atoms.shape)) @ gauge
    second = multiply(other, from_rotation_vector(rng.normal(0, np.radians(0.7), (500, 3))))
    return Account(atoms, number[:400], poses[:400]), Account(shaken, number[100:], second[100:])


def test_a_right_pair_is_trusted(pair: tuple[Account, Account]) -> None:
    numbers, found = compare_accounts(GOOD, *pair, NEIGHBOUR_A)
    assert numbers.agreement == 1.0
    assert numbers.gap > 0.02
    assert numbers.pose_agreement > 0.99
    assert numbers.shape > 0.95
    assert judge(numbers).trusted is True
    assert judge(numbers).reasons == ()
    again, _ = compare_accounts(GOOD, *pair, NEIGHBOUR_A, found.ranked)
    assert again.agreement == numbers.agreement


def test_poses_on_two_branches_are_seen(pair: tuple[Account, Account]) -> None:
    first, second = pair
    poses = second.poses.copy()
    poses[::3] = equivalents(poses[::3])[:, 5]
    numbers, _ = compare_accounts(GOOD, first, replace(second, poses=poses), NEIGHBOUR_A)
    assert numbers.pose_agreement == pytest.approx(0.67, abs=0.02)
    assert judge(numbers).trusted is False  # which of the two accounts errs cannot be told
    assert judge(replace(numbers, pose_agreement=0.95)).trusted is True
    assert judge(replace(numbers, pose_agreement=0.95, upheld=0.7)).trusted is False


def test_poses_in_another_gauge_than_the_atoms(pair: tuple[Account, Account]) -> None:
    first, second = pair
    numbers, _ = compare_accounts(GOOD, first, replace(second, poses=equivalents(second.poses)[:, 5]), NEIGHBOUR_A)
    assert numbers.pose_agreement == 0.0


def test_without_common_frames_poses_stay_unjudged(pair: tuple[Account, Account]) -> None:
    first, second = pair
    numbers, _ = compare_accounts(
        replace(GOOD, pose_agreement=None), first, replace(second, number=second.number + 1000), NEIGHBOUR_A
    )
    assert numbers.pose_agreement is None
    assert judge(numbers).trusted is False


def test_no_atoms(pair: tuple[Account, Account]) -> None:
    numbers, found = compare_accounts(GOOD, replace(pair[0], atoms_A=np.zeros((0, 3))), pair[1], NEIGHBOUR_A)
    assert (numbers.agreement, found.ranked) == (0.0, ())
    assert judge(numbers).trusted is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"agreement": 0.9}, "90 % of the atoms"),
        ({"gap": 0.0, "second_margin": 0.1}, "same from several sides"),
        ({"gap": 0.0, "second_margin": None}, "same from several sides"),
        ({"packing": 0.8}, "not described by an fcc, bcc or hcp lattice"),
        ({"pose_agreement": 0.5}, "50 % of the frames"),
        ({"upheld": 0.9}, "90 % of the time"),
        ({"upheld": None}, "no second map has seen enough"),
        ({"pose_agreement": None}, "an unknown share of the frames"),
        ({"branch_margin": -1.0}, "another branch"),
        ({"branch_margin": 1.3, "second_margin": 1.3}, "another branch"),  # two crystals that took turns
        ({"branch_margin": 0.0, "second_margin": 8.0}, "another branch"),
        ({"likelihood": 5.0}, "hardly show"),
        ({"used_share": 0.7}, "70 %"),
        ({"shape": 0.6}, "shapes"),
        ({"unseen_share": 0.8}, "never seen"),
        ({"vacuum_share": 0.2}, "vacuum"),
        ({"lattice_rms_A": 0.5}, "0.50 A"),
        ({"mixed_share": 0.25}, "25 % of the atoms come and go"),
        ({"mixed_share": None}, "an unknown share of the atoms"),
        ({"weakest_shell": -0.6}, "does not show its own atoms, or their negative"),
    ],
)
def test_every_sign_is_named(change: dict[str, float], words: str) -> None:
    verdict = judge(replace(GOOD, **change))
    assert verdict.trusted is False
    assert len(verdict.reasons) == 1
    assert words in verdict.reasons[0]


def test_a_weak_signal_has_small_margins() -> None:
    assert judge(replace(GOOD, likelihood=75.0, branch_margin=0.7)).trusted is True


def test_branches_that_the_second_map_tells_apart_are_told_apart() -> None:
    assert judge(replace(GOOD, branch_margin=1.3, second_margin=2.5)).trusted is True


def test_matter_without_a_lattice_needs_no_lattice() -> None:
    assert judge(replace(GOOD, lattice_rms_A=None)).trusted is True


def test_a_crystal_that_is_nearly_symmetric_is_told_by_the_second_map() -> None:
    # one atom of 160 differs between two gauges: a gap of 0.006, but every stretch of frames wins by 1.0
    assert judge(replace(GOOD, gap=0.006, second_margin=1.0)).trusted is True


def test_holes_where_nothing_was_seen_do_not_speak_against_the_lattice() -> None:
    reasons = judge(replace(GOOD, packing=0.65, unseen_share=0.85)).reasons
    assert len(reasons) == 1
    assert "never seen" in reasons[0]


def test_unseen_directions() -> None:
    assert unseen_share(np.zeros(CELLS, np.int32)) == 1.0
    assert unseen_share(np.ones(CELLS, np.int32)) == 0.0
    spin = from_rotation_vector(np.linspace(0, 2 * np.pi, 500)[:, None] * [0.0, 0.0, 1.0])
    assert unseen_share(view_counts(spin)) > 0.8  # always along one direction: one plane
    tilt = from_rotation_vector(np.linspace(0, np.pi, 2000)[:, None] * [1.0, 0.0, 0.0])
    assert unseen_share(view_counts(tilt)) < 0.05  # a full tilt series
