"""Of several beginnings the one is taken that explains the frames best; a path that is one branch is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumble.recon.beginning import Decided, best_beginning
from tumble.recon.branches import Path
from tumble.recon.redecision import Redecision
from tumble.recon.site import Site

FRAMES = 200
SITE = Site(np.zeros(3), 11.0)


def path_of(branch: np.ndarray) -> Path:
    """A path that keeps the branch of every frame in the first component of its pose."""
    poses = np.zeros((FRAMES, 4))
    poses[:, 0] = branch
    return Path(poses, np.zeros((FRAMES, 2)), np.zeros(FRAMES), np.ones(FRAMES, np.bool_))


class Crystal:
    """Frames are drawn to the branch that holds more than 70 % of the map; a mixture keeps all where they are."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def decide(self, path: Path, site: Site, turn: int) -> Decided:
        self.rounds.append(turn)
        branch = path.poses[:, 0]
        share = float(branch[path.used].mean())
        fresh = np.full(FRAMES, round(share)) if abs(share - 0.5) > 0.2 else branch
        poses = path.poses.copy()
        poses[:, 0] = fresh
        purity = max(float(fresh.mean()), 1 - float(fresh.mean()))
        changed = int((fresh != branch).sum())
        numbers = Redecision(changed or round(0.1 * FRAMES * (purity < 1)), FRAMES, 800 * purity, 800 * purity, 1.0)
        return Decided(replace(path, poses=poses, used=np.ones(FRAMES, np.bool_)), site, numbers, np.zeros(3))


def test_a_path_of_one_branch_is_decided_once() -> None:
    crystal = Crystal()
    path, site = best_beginning(path_of(np.zeros(FRAMES)), SITE, crystal.decide)
    assert crystal.rounds == [0]
    assert not path.poses[:, 0].any()
    assert site is SITE


def test_a_doubted_path_is_tried_from_its_parts_even_if_it_agrees_with_itself() -> None:
    """Two branches that both hold their own change no frame; parts of one branch have the better likelihood."""

    def decide(path: Path, site: Site, turn: int) -> Decided:
        mixed = path.used.all() and len(set(path.poses[:, 0])) > 1
        poses = path.poses.copy()
        if not mixed:
            poses[:, 0] = round(float(path.poses[path.used, 0].mean()))
        numbers = Redecision(0, FRAMES, 100.0, 100.0 if mixed else 110.0, 1.0)
        return Decided(replace(path, poses=poses, used=np.ones(FRAMES, np.bool_)), site, numbers, np.zeros(3))

    path = path_of(np.arange(FRAMES) >= FRAMES // 2)
    assert len(set(best_beginning(path, SITE, decide)[0].poses[:, 0])) == 2
    assert len(set(best_beginning(path, SITE, decide, doubted=True)[0].poses[:, 0])) == 1


@pytest.mark.parametrize("turns", [(100,), (90,), (30, 110)])
def test_a_wrong_turn_is_left_behind(turns: tuple[int, ...]) -> None:
    branch = np.zeros(FRAMES)
    for turn in turns:
        branch[turn:] = 1 - branch[turn:]
    path, _ = best_beginning(path_of(branch), SITE, Crystal().decide)
    assert len(set(path.poses[:, 0])) == 1
    assert path.used.all()


def test_the_likelihood_of_most_frames_decides() -> None:
    """A part that leads to a worse map is not taken, even where a few frames that are lost raise its mean."""

    def decide(path: Path, site: Site, turn: int) -> Decided:
        whole = path.used.all()
        kept = replace(path, poses=path.poses + (0 if whole else 1))
        mean, median = (2.0, 2.0) if whole else (3.0, 1.0)
        return Decided(kept, site, Redecision(FRAMES, FRAMES, mean, median, 0.0), np.zeros(3))

    path, _ = best_beginning(path_of(np.zeros(FRAMES)), SITE, decide)
    assert not path.poses.any()
