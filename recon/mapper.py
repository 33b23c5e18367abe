"""The working side of one particle's reconstruction: boxes in, decided poses and solved maps out.

Bootstrap, then batches: index on the lattice map, score the 48 branches on the filled map, decide a provisional window;
now and then re-decide everything buffered, refine and solve. Old frames leave the bounded buffer into permanent sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import branches, lattice
from .beginning import Decided, best_beginning, first_path
from .branches import Path, States
from .buffer import FrameBuffer
from .chain import chosen_modulo, step_per_axis_deg
from .change import Change, find_change
from .clock import StepClock
from .coverage import CELLS, view_counts
from .crosscheck import Scorer, Trial, tried
from .device import Device
from .errors import NoLatticeError, TwinnedError
from .geometry import HalfPlane
from .heterogeneity import Heterogeneity, find_heterogeneity
from .indexing import contrast_sign, exchanged, grid_candidates, index_lattice, local_candidates
from .kinds import USUAL, Lattice
from .ledger import Ledger
from .lens import Lens
from .limits import Limits, followed
from .output import Published, pose_rows, publish
from .place import whereabouts
from .recognition import Boxes, contrasted, recognised
from .records import NoiseSpectrum, Observation, PoseRow
from .redecision import FOLDS, redecide
from .refinement import refine_halves, scoring_map, solve
from .residual import Held
from .rotations import angle_deg
from .site import Site
from .spectra import box_coefficients, noise_weights
from .strain import strained
from .volume import Grid
from .whitened import Whitened

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
FIRST_STEP_DEG = 2.7  # rotation per frame assumed until it has been measured
LEAST_STEP_DEG = 0.2
NO_CRYSTAL = 15.0  # log-likelihood per frame, against maps without it, that a crystal must reach; pure noise gave 5
LEAST_USED = 0.2  # share of frames of the first map whose pose must be sure
SURE_SIGN, SIGN_FRAMES = 6.0, 150  # standard errors by which bright or dark must lead there; else so many are indexed
SETTLED = 0.004  # share of changed frames below which a re-decision has converged
NEARLY_SETTLED = 0.02  # the same while frames stream in and another re-decision will come
GRID_SPACING_DEG = 3.1  # for a crystal of 25 A; the width of a lattice spot in angle goes with 1 / diameter
FEW_FRAMES = 800  # from here on a map of half the frames is good enough to judge the others
MOST_ROUNDS = 10  # of re-decision, for the first map and the last, at most; from half of the poses right it took five
STREAM_ROUNDS = 4  # the same while frames stream in
CHAIN_SIGMA_DEG = 3.0  # of the chain on the grid


@dataclass(frozen=True, slots=True)
class MapperOptions:
    """Sizes of the streaming scheme, in frames, and what the operator knows of the sample."""

    element: str | None
    lattice: Lattice | None
    buffer_frames: int
    lag_frames: int
    shift_sd_px: float
    lens: Lens = field(default_factory=Lens)
    elements: tuple[str, ...] = ()  # of an alloy


class Mapper:
    """Owner of the frame buffer, the lattice model and the sums of one particle."""

    def __init__(
        self,
        plane: HalfPlane,
        limits: Limits,
        pixel_size_A: float,
        diameter_A: float,
        options: MapperOptions,
        device: Device,
    ) -> None:
        self.plane, self.limits, self.options, self.device = plane, limits, options, device
        self.pixel_size_A, self.diameter_A = pixel_size_A, diameter_A
        self.buffer = FrameBuffer(options.buffer_frames, len(plane.kx), device)
        self.lattice, self.lens = options.lattice, options.lens  # with the sign of the contrast, once that was found
        self.step_deg = FIRST_STEP_DEG
        self.likelihood = 0.0  # mean per frame, each against a map without its block
        self.margin = 0.0  # over the best alternative, where it is least
        self.published: Published | None = None
        self.left_rows = self.left_used = 0  # frames that left the buffer
        self.left_views = np.zeros(CELLS, np.int32)
        self.clock = StepClock()
        self.frames = 0  # taken in so far
        self._left: list[PoseRow] = []
        self._committed = 0  # rows whose branch is settled until the next re-decision
        self._window: list[States] = []  # scored branches of the provisional rows
        self._next_decision = self._next_map = self._next_strain = 0

    @property
    def search_size(self) -> tuple[int, int, int]:
        """Poses, shifts and coefficients of the exhaustive search of every frame, once there is a lattice map."""
        indexer = self._model.indexer
        return len(indexer.grid.poses), len(indexer.shifts), indexer.model.shape[1]

    @property
    def _band(self) -> tuple[float, float]:
        box_A = self.plane.box_px * self.pixel_size_A
        return lattice.band((self.lattice or USUAL).scale_A, box_A, self.limits.index)

    def bootstrap(self, observations: list[Observation], noise: NoiseSpectrum, twin_frames: int = 0) -> None:
        """First map: lattice constant, index modulo 48, one continuous branch, re-decision on the filled map.

        Raises
        ------
        NoLatticeError : no lattice constant stands out.
        TwinnedError : the crystal is twinned and there are fewer than `twin_frames`; begin again with a new mapper.
        """
        rows = self._take_in(observations)
        weight = noise_weights(noise, self.plane)
        boxes = Boxes(
            self._coefficients(rows), self.plane, weight, self.diameter_A, self.pixel_size_A,
            Grid(self.plane.box_px, self.limits.index), self.device,
        )  # fmt: skip
        with self.clock("lattice constant"):
            fit = recognised(boxes, self.options.element, self.options.lattice, self.lens.signs_tried)
        self.lattice = fit.lattice
        self.limits = followed(self.limits, self.lattice, self.plane.box_px * self.pixel_size_A)
        grid = Grid(self.plane.box_px, self.limits.index)
        low, high = self._band
        inside = (self.plane.radius >= low) & (self.plane.radius <= high)
        self._data = data = Whitened(
            self.buffer.coefficients, self.plane, weight, np.where(inside, weight, np.float32(0)),
            self.options.shift_sd_px, self.device,
        )  # fmt: skip
        self._ledger = Ledger(data, Grid(self.plane.box_px, self.limits.final), self.buffer.capacity)
        with self.clock("bootstrap"):
            spacing = float(np.clip(GRID_SPACING_DEG * 25 / self.diameter_A, 2.2, 3.6))
            poses = lattice.pose_grid(spacing, CHAIN_SIGMA_DEG, self.lattice.kind.alike)
            template = contrasted(self.lattice, replace(boxes, grid=grid), self._band, poses)
            how = template, grid, poses, self._band, self.step_deg
            own = self.lattice.kind.symmetry
            sign = fit.sign if fit.lead > SURE_SIGN else contrast_sign(data, rows[:SIGN_FRAMES], *how, own)
            self.lens = self.lens.of_sign(sign)
            self._coefficients(rows)[...] *= sign
            found, self._model = index_lattice(data, rows, *how, symmetry=own)
        self.buffer.remember(rows, found)
        path, site = first_path(found, self.step_deg, self.lattice, self.pixel_size_A)
        self.step_deg = max(step_per_axis_deg(path.poses), LEAST_STEP_DEG)
        if site.twinned and len(rows) < twin_frames:
            raise TwinnedError
        with self.clock("re-decide"):
            path, self._site = best_beginning(path, site, partial(self._decide, thorough=True))
        self.buffer.accept(rows, path)
        self.redecide(rounds=MOST_ROUNDS, thorough=True)
        share = float(self.buffer.used[rows].mean())
        if share < LEAST_USED or self.likelihood < NO_CRYSTAL:
            numbers = f"poses sure in {100 * share:.0f} % of them, likelihood {self.likelihood:.0f} per frame"
            raise NoLatticeError(f"the frames do not agree on one crystal ({numbers})")
        self.publish(thorough=True)

    @property
    def site(self) -> Site:
        """The lattice of the crystal: its grains, its strain."""
        return self._site

    def _coefficients(self, rows: Rows) -> Any:
        return self.buffer.coefficients[rows[0] : rows[-1] + 1]

    def _take_in(self, observations: list[Observation]) -> Rows:
        """Whiten boxes into the buffer, making room when it is full."""
        count = len(observations)
        if self.buffer.length + count > self.buffer.capacity:
            self._forget(max(count, self.buffer.capacity // 4))
        with self.clock("whiten"):
            boxes = np.stack([o.box for o in observations])
            signs = self.lens.signs(self.plane, self.pixel_size_A)
            coefficients = box_coefficients(boxes, self.plane, self.device, signs)
        self.frames += count
        return self.buffer.append(
            coefficients,
            np.array([o.frame for o in observations]),
            np.array([o.time_s for o in observations]),
            np.array([o.corner_px for o in observations], float) + self.plane.box_px // 2,
        )

    def advance(self, observations: list[Observation]) -> None:
        """Index a batch on the lattice map, score its branches on the filled map, decide the provisional window."""
        rows = self._take_in(observations)
        count, data, model = len(rows), self._data, self._model
        with self.clock("index"):
            found = grid_candidates(model, data, rows)
        with self.clock("refine lattice"):
            found = local_candidates(model, data, rows, found, self.step_deg, rounds=6)
            found = exchanged(model, data, rows, found, self.step_deg, rounds=4)
            self.buffer.remember(rows, found)
        with self.clock("score"):
            before, same, each = self.buffer.poses[rows[0] - 1], model.symmetry, np.arange(count)
            chosen = chosen_modulo(found.poses, found.score, self.step_deg, anchor=before, symmetry=same)
            poses = np.concatenate([found.poses[each, chosen][:, None], found.poses], axis=1)
            seen = np.concatenate([found.shifts[each, chosen][:, None], found.shifts], axis=1)
            probability = np.concatenate([np.ones((count, 1)), found.probability], axis=1)
            listed = branches.shortlist(poses, seen, probability, branches.CANDIDATES, same)
            self._window.append(
                branches.score_branches(data, self._filled, rows, listed, self._centre, self.limits.score, self._site)
            )
        with self.clock("decide"):
            self._decide_window()
        total = self.buffer.length + self.left_rows
        if total >= self._next_decision:
            self.redecide(rounds=STREAM_ROUNDS)
        if total >= self._next_map:
            self.publish()

    def _decide_window(self) -> None:
        """Viterbi over the provisional rows; batches older than the lag are settled."""
        buffer, window, rows = self.buffer, self._window, np.arange(self._committed, self.buffer.length)
        buffer.accept(rows, branches.decide(branches.joined(window), self.step_deg, buffer.poses[self._committed - 1]))
        while len(window) > 1 and len(rows) - len(window[0].score) >= self.options.lag_frames:
            settled = len(window.pop(0).score)
            self._committed += settled
            rows = rows[settled:]

    def redecide(self, rounds: int, *, thorough: bool = False) -> None:
        """Decide all buffered frames anew until few change; then everything buffered is settled.

        `thorough` tries more candidates, leaves less out of each map and moves every pose to its optimum; while frames
        stream in, only what changes is touched.
        """
        buffer, rows = self.buffer, self.buffer.rows
        with self.clock("re-decide"):
            for turn in range(rounds):
                decided = self._decide(buffer.path(), self._site, turn, thorough=thorough)
                moved = angle_deg(decided.path.poses, buffer.poses[rows]) > 0
                buffer.accept(rows, decided.path)
                buffer.refined[rows[moved]] = False
                numbers, self._site, self._centre = decided.numbers, decided.site, decided.centre_px
                self.likelihood, self.margin = numbers.likelihood, numbers.margin
                few = numbers.used < LEAST_USED * len(rows)
                if few or numbers.changed <= (SETTLED if thorough else NEARLY_SETTLED) * len(rows):
                    break
        self.step_deg = max(step_per_axis_deg(buffer.poses[rows]), LEAST_STEP_DEG)
        self._committed, self._window = buffer.length, []
        total = buffer.length + self.left_rows
        self._next_decision = total + min(total // 2, self.options.buffer_frames // 2)

    def begin_again(self) -> None:
        """Take the map that explains the buffered frames best of one from all of them and others begun from parts."""
        with self.clock("re-decide"):
            decide, ideal = partial(self._decide, thorough=True), replace(self._site, strain=None)
            path, self._site = best_beginning(self.buffer.path(), ideal, decide, doubted=True)
        self.buffer.accept(self.buffer.rows, path)
        self.redecide(rounds=MOST_ROUNDS, thorough=True)
        self.publish(thorough=True)

    def _decide(self, path: Path, site: Site, turn: int, *, thorough: bool) -> Decided:
        """One round of re-decision of everything buffered, from `path`."""
        buffer, rows, grid = self.buffer, self.buffer.rows, Grid(self.plane.box_px, self.limits.score_grid)
        around, site = whereabouts(path, site, buffer.origin_px[rows], buffer.number[rows])
        grains = len(site.grains) > 1
        decided = redecide(
            self._data, rows, buffer.number[rows], path, buffer.recall(), self._lattice_map(grid), grid,
            self.limits.score, self._band, self.step_deg, site,
            keep=branches.CANDIDATES if (turn == 0 and thorough) or grains else 2,
            folds=FOLDS if thorough or len(rows) < FEW_FRAMES else 2, polish=thorough, doubting=thorough and turn == 0,
            base=self._ledger.left, around=around, origin_px=buffer.origin_px[rows],
        )  # fmt: skip
        return Decided(decided[0], site, *decided[1:])

    def _lattice_map(self, grid: Grid) -> Any:
        """Real twin of the symmetrised lattice map on the sampling of another grid."""
        return self._model.real(grid.samples)

    def publish(self, *, thorough: bool = False) -> None:
        """Refine the halves, solve the map, trace atoms, rebuild the map that scores the next batches.

        `thorough` refines every pose again; otherwise those that have not been refined since their branch was decided,
        against a map that does not hold them yet. Provisional frames wait. Where the crystal is strained and its poses
        did not know, all this is done again.
        """
        self._publish(thorough)
        total = self.buffer.length + self.left_rows
        if thorough or total >= self._next_strain:
            self._next_strain = 2 * total
            if self._laid_anew():
                self._publish(thorough=True)

    def _laid_anew(self) -> bool:
        """Whether the crystal turned out to be strained: its poses are then on a lattice strained as much."""
        rows, grid = np.arange(self._committed), Grid(self.plane.box_px, self.limits.score_grid)
        with self.clock("strain"):
            found = strained(
                self._model, self._data, self._ledger.sums, rows, self.buffer.number[rows], self.buffer.path(rows),
                self._centre, grid, self.limits.score, self._site,
            )  # fmt: skip
        if found is not None:
            self._site, path = found
            self.buffer.accept(rows, path)
        return found is not None

    def _publish(self, thorough: bool) -> None:
        buffer, ledger, box_px = self.buffer, self._ledger, self.plane.box_px
        total = buffer.length + self.left_rows
        self._next_map = total + max(200, min(total // 3, self.options.buffer_frames // 4))
        settled = np.arange(self._committed)
        with self.clock("insert"):
            known = settled if thorough else settled[ledger.inside[settled] | buffer.refined[settled]]
            ledger.update(known, buffer.number[known], buffer.path(known))
        with self.clock("refine"):
            rows = settled if thorough else settled[~buffer.refined[settled]]
            grid = Grid(box_px, self.limits.refine_grid)
            path = refine_halves(
                self._data, ledger.sums, rows, buffer.number[rows], buffer.path(rows), self._lattice_map(grid), grid,
                self.limits.refine, self._band, operations=self._site.operations,
            )  # fmt: skip
            buffer.accept(rows, path)
            buffer.refined[rows] = True
        with self.clock("insert"):
            ledger.update(rows, buffer.number[rows], path)
        with self.clock("solve"):
            solved = solve(ledger.sums)
        with self.clock("atoms"):
            told, start = self.options, self.lattice or USUAL
            self.published = publish(solved, self.pixel_size_A, start, told.element, self.device, told.elements)
        if self.published.atoms:  # the map knows better than the track where the particle's middle is
            self._site = replace(self._site, offset_px=-self.published.centre_A / self.pixel_size_A)
        with self.clock("scoring map"):
            grid = Grid(box_px, self.limits.score_grid)
            self._filled, self._centre = scoring_map(
                ledger.sums, self._lattice_map(grid), grid, self._band, operations=self._site.operations
            )

    def _forget(self, count: int) -> None:
        """Move the oldest settled rows from the buffer into the permanent sums."""
        rows = np.arange(min(count, self._committed))
        path = self.buffer.path(rows)
        self._ledger.update(rows, self.buffer.number[rows], path)
        self._ledger.leave(len(rows))
        self.left_views = self.left_views + view_counts(path.poses[path.used])
        self.left_used += int(path.used.sum())
        self.left_rows += len(rows)
        self._left.extend(pose_rows(self.buffer, rows, self.published, self.pixel_size_A))
        self.buffer.drop(len(rows))
        self._committed -= len(rows)

    @property
    def scorer(self) -> Scorer | None:
        """The map, for the poses of others to be tried on; None before it is."""
        if self.published is None:
            return None
        rows, middle = np.flatnonzero(self.buffer.used[self.buffer.rows]), self.published.centre_A / self.pixel_size_A
        frames = self.buffer.number[rows], self.buffer.path(rows)
        return Scorer(self._filled, self._centre, middle, self._site, self.limits.score, *frames)

    def tried_on(self, other: Scorer, turn: Floats, shift_A: Floats) -> Trial | None:
        """The branches of the used frames on another map, ``own = turn @ other + shift`` about the atoms' centroids."""
        own, rows = self.scorer, np.flatnonzero(self.buffer.used[self.buffer.rows])
        return tried(self._data, rows, own, turn, shift_A / self.pixel_size_A, other) if own else None

    def change(self, known: Floats | None = None) -> Change | None:
        """Atoms that the newest settled frames lack or have beside what the oldest had, see `change.find_change`."""
        with self.clock("change"):
            return find_change(held, known) if (held := self._held) else None

    def heterogeneity(self) -> Heterogeneity | None:
        """Whether all settled frames show the crystal of the map, see `heterogeneity.find_heterogeneity`."""
        return find_heterogeneity(held) if (held := self._held) else None

    @property
    def _held(self) -> Held | None:
        """The settled frames held against the map; None before there is one."""
        if self.published is None:
            return None
        rows, own = np.flatnonzero(self.buffer.used[: self._committed]), (self.published, self.pixel_size_A)
        return Held(self._data, self.buffer, rows, self._filled, *own, self.limits.score)

    @property
    def used(self) -> int:
        """Frames in the map."""
        return self.left_used + int(self.buffer.used[: self.buffer.length].sum())

    @property
    def views(self) -> NDArray[np.int32]:
        """Views per cell of the hemisphere, of frames in the map."""
        return self.left_views + view_counts(self.buffer.poses[np.flatnonzero(self.buffer.used[self.buffer.rows])])

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """Final poses of frames that left the buffer since the last call."""
        left, self._left = tuple(self._left), []
        return left

    def poses(self) -> tuple[PoseRow, ...]:
        """Poses of the frames still in the buffer."""
        return pose_rows(self.buffer, self.buffer.rows, self.published, self.pixel_size_A)
