"""One particle from its first box to its atoms: collect, index, decide, stream, refine. Work depends on frame counts
only.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import branches, lattice
from .branches import Path, States
from .buffer import FrameBuffer
from .chain import path_modulo, step_per_axis_deg
from .coverage import CELLS, view_counts
from .device import Device
from .geometry import box_size_px, half_plane
from .indexing import LatticeModel, grid_candidates, index_lattice, local_candidates
from .limits import Limits, limits
from .maps import Accumulator, filled_map, rough_map
from .output import Published, central_layer, particle_result, pose_rows, publish
from .records import NoiseSpectrum, Observation, ParticleResult, ParticleStatus, PoseRow
from .refinement import refine_halves, solve
from .spectra import box_coefficients, excess_profile, noise_weights
from .volume import Grid, as_kernel_volume
from .whitened import Whitened

Floats = NDArray[np.float64]
FIRST_STEP_DEG = 2.7  # rotation per frame assumed until it has been measured
LEAST_FRAMES = 150  # below this no lattice is indexed
LEAST_NOISE_BOXES = 100
NO_LATTICE = 3.0  # standard errors by which a lattice constant must win


@dataclass(frozen=True, slots=True)
class ReconstructionOptions:
    """What the operator may set; everything has a default that needs no knowledge of the sample."""

    element: str | None = None
    lattice_constant_A: float | None = None
    bootstrap_frames: int = 400
    buffer_frames: int = 2000
    batch_frames: int = 50
    lag_frames: int = 100
    shift_sd_px: float = 1.5


class ParticleReconstruction:
    """Reconstruction of one particle from its observations.

    Parameters
    ----------
    particle : its number. diameter_A : from detection. noise : returns the background spectrum of boxes of `box_px`, or
        None while too few empty boxes were seen. device : where to compute.

    Raises
    ------
    ValueError : pixels too coarse to resolve a lattice.
    """

    def __init__(
        self,
        particle: int,
        pixel_size_A: float,
        diameter_A: float,
        noise: Callable[[], NoiseSpectrum | None],
        options: ReconstructionOptions,
        device: Device,
    ) -> None:
        self.particle, self.pixel_size_A, self.diameter_A = particle, pixel_size_A, diameter_A
        self.box_px = box_size_px(diameter_A, pixel_size_A)
        self.options, self.device = options, device
        self._noise = noise
        self.limits: Limits = limits(self.box_px, pixel_size_A, 3.97)
        self._plane = half_plane(self.box_px, self.limits.largest)
        self._buffer = FrameBuffer(options.buffer_frames, len(self._plane.kx), device)
        self._pending: list[Observation] = []
        self._seen = 0
        self._rejected: Counter[str] = Counter()
        self._state, self._note = "COLLECTING", ""
        self._step_deg = FIRST_STEP_DEG
        self.lattice_constant_A: float | None = options.lattice_constant_A
        self._data: Whitened | None = None
        self._model: LatticeModel | None = None
        self._base: Accumulator | None = None  # sums of frames that left the buffer
        self._base_views = np.zeros(CELLS, np.int32)
        self._base_used = 0
        self._left: list[PoseRow] = []
        self._committed = 0  # rows whose branch is settled until the next re-decision
        self._window: list[States] = []  # scored branches of the provisional rows
        self._next_decision = 0
        self._published: Published | None = None
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._done_frames = 0

    # ---------------------------------------------------------------- frames in

    def push(self, observation: Observation) -> None:
        """Take one observation; cheap."""
        self._seen += 1
        if not observation.accepted:
            self._rejected[observation.reason or "rejected"] += 1
        elif self._state == "FAILED":
            self._rejected["no lattice"] += 1
        else:
            self._pending.append(observation)

    def work(self) -> bool:
        """Do one bounded piece of work if enough frames wait; True when it did."""
        if self._state == "COLLECTING":
            return len(self._pending) >= self.options.bootstrap_frames and self._bootstrap()
        if self._state != "MAPPING":
            return False
        if len(self._pending) >= self.options.batch_frames:
            self._advance(self.options.batch_frames)
            if self._buffer.length + self._base_rows >= self._next_decision:
                self._redecide(rounds=2)
                self._publish()
            return True
        return False

    def finish(self) -> None:
        """The stream is over: place every frame, decide once more, refine, publish."""
        while self.work():
            pass
        if self._state == "COLLECTING":
            if len(self._pending) < LEAST_FRAMES:
                self._fail(f"only {len(self._pending)} usable frames, a lattice needs {LEAST_FRAMES}")
            else:
                self._bootstrap(final=True)
        if self._state == "MAPPING":
            if self._pending:
                self._advance(len(self._pending))
            self._redecide(rounds=3)
            self._publish()
            self._state = "DONE"

    # ---------------------------------------------------------------- stages

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[step] += time.perf_counter() - start

    def _take_in(self, count: int) -> NDArray[np.int64]:
        """Whiten the oldest `count` pending boxes into the buffer, making room when it is full."""
        taken, self._pending = self._pending[:count], self._pending[count:]
        if self._buffer.length + count > self._buffer.capacity:
            self._forget(max(count, self._buffer.capacity // 4))
        with self._timed("whiten"):
            boxes = np.stack([o.box for o in taken])
            coefficients = box_coefficients(boxes, self._plane, self.device)
        self._done_frames += count
        half = self.box_px // 2
        return self._buffer.append(
            coefficients,
            np.array([o.frame for o in taken]),
            np.array([o.time_s for o in taken]),
            np.array([(o.corner_px[0] + half, o.corner_px[1] + half) for o in taken], float),
        )

    def _whitened(self, noise: NoiseSpectrum) -> Whitened:
        weight = noise_weights(noise, self._plane)
        band = np.where(
            (self._plane.radius >= self._band[0]) & (self._plane.radius <= self._band[1]), weight, np.float32(0)
        )
        return Whitened(self._buffer.coefficients, self._plane, weight, band, self.options.shift_sd_px, self.device)

    @property
    def _band(self) -> tuple[float, float]:
        constant = self.lattice_constant_A or 3.97
        return lattice.band(constant, self.box_px * self.pixel_size_A, self.limits.index)

    def _bootstrap(self, final: bool = False) -> bool:
        """First map: lattice constant, index modulo 48, one continuous branch, re-decision on the filled map."""
        noise = self._noise()
        if noise is None or noise.boxes < (1 if final else LEAST_NOISE_BOXES):
            if final:
                self._fail("no particle-free background to measure the noise on")
            return False
        rows = self._take_in(min(len(self._pending), self._buffer.capacity))
        grid = Grid(self.box_px, self.limits.index)
        with self._timed("lattice constant"):
            if not self._find_lattice(noise, rows):
                return True
        self._data = data = self._whitened(noise)
        constant = self.lattice_constant_A or 3.97
        with self._timed("index"):
            spacing = float(np.clip(3.1 * 25 / self.diameter_A, 2.2, 3.6))
            poses = lattice.pose_grid(spacing, 3.0)
            template = lattice.match_contrast(
                lattice.lattice_volume(constant, self.diameter_A, grid, self.pixel_size_A, self.device),
                excess_profile(self._host_coefficients(rows), self._plane, data.weight), self._plane, grid,
                self.pixel_size_A, self._band, poses.poses[::40], self.device,
            )  # fmt: skip
            found, self._model = index_lattice(data, rows, template, grid, poses, self._band, self._step_deg)
        self._buffer.remember(rows, found)
        path, chosen = path_modulo(found.poses, found.score, self._step_deg)
        self._step_deg = max(step_per_axis_deg(path), 0.2)
        each = np.arange(len(rows))
        self._buffer.accept(
            rows, Path(path, found.shifts[each, chosen], found.score[each, chosen], np.ones(len(rows), np.bool_))
        )
        self._state = "MAPPING"
        self._redecide(rounds=4)
        self._publish()
        return True

    def _host_coefficients(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self.device.to_host(self._buffer.coefficients[rows[0] : rows[-1] + 1]))

    def _find_lattice(self, noise: NoiseSpectrum, rows: NDArray[np.int64]) -> bool:
        """Measure the lattice constant on a sample of frames; False (and FAILED) when none stands out."""
        if self.lattice_constant_A is not None:
            return True
        element = self.options.element
        start = lattice.FCC_METALS.get(element) if element else None
        search = (start * 0.95, start * 1.05) if start else (3.45, 4.25)
        sample = self._buffer.coefficients[rows[0] : rows[-1] + 1 : max(1, len(rows) // 30)]
        constant, sharpness = lattice.measure_lattice_constant(
            sample, self._plane, noise_weights(noise, self._plane), self.diameter_A, self.pixel_size_A,
            Grid(self.box_px, self.limits.index), lattice.pose_grid(4.2, 3.0), self.device, search,
        )  # fmt: skip
        if sharpness < NO_LATTICE:
            self._fail("no fcc lattice stands out of the noise")
            return False
        self.lattice_constant_A = constant
        return True

    def _fail(self, why: str) -> None:
        self._state, self._note = "FAILED", why
        self._rejected["no lattice"] += len(self._pending) + self._buffer.length
        self._pending = []

    def _advance(self, count: int) -> None:
        """Index a batch on the lattice map, score its branches on the filled map, decide the provisional window."""
        data, model = self._ready()
        buffer = self._buffer
        rows = self._take_in(count)
        with self._timed("index"):
            found = grid_candidates(model, data, rows)
            for rounds in (6, 4):
                found = local_candidates(model, data, rows, found, self._step_deg, rounds=rounds)
            buffer.remember(rows, found)
        before = buffer.poses[rows[0] - 1]
        path, chosen = path_modulo(found.poses, found.score, self._step_deg, anchor=before)
        with self._timed("score"):
            poses = np.concatenate([path[:, None], found.poses], axis=1)
            seen = np.concatenate([found.shifts[np.arange(count), chosen][:, None], found.shifts], axis=1)
            candidates, positions = branches.pick_candidates(poses, seen, branches.CANDIDATES)
            self._window.append(
                branches.score_branches(
                    data, self._filled, rows, candidates, positions, self._centre, self.limits.score
                )
            )
        with self._timed("decide"):
            self._decide_window()

    def _decide_window(self) -> None:
        """Viterbi over the provisional rows; batches older than the lag are settled."""
        buffer, window = self._buffer, self._window
        states = States(
            np.concatenate([w.poses for w in window]),
            np.concatenate([w.shifts for w in window]),
            np.concatenate([w.score for w in window]),
        )
        rows = np.arange(self._committed, buffer.length)
        decided = branches.decide(states, self._step_deg, buffer.poses[self._committed - 1])
        buffer.accept(rows, decided)
        while len(window) > 1 and buffer.length - self._committed - len(window[0].score) >= self.options.lag_frames:
            self._committed += len(window.pop(0).score)

    def _redecide(self, rounds: int) -> None:
        """Decide all buffered frames anew until few change; then everything buffered is settled."""
        data, model = self._ready()
        grid = Grid(self.box_px, self.limits.score_grid)
        real = branches.real_lattice(model.volume, model.grid, self.device, grid.samples)
        buffer = self._buffer
        rows = buffer.rows
        with self._timed("re-decide"):
            for turn in range(rounds):
                path, numbers, centre = branches.redecide(
                    data, rows, buffer.number[rows], buffer.path(), buffer.candidates[rows], buffer.candidate_px[rows],
                    real, grid, self.limits.score, self._band, self._step_deg,
                    keep=branches.CANDIDATES if turn == 0 else 2, base=self._base,
                )  # fmt: skip
                buffer.accept(rows, path)
                if numbers.changed <= 0.004 * len(rows):
                    break
            self._step_deg = max(step_per_axis_deg(buffer.poses[rows]), 0.2)
            self._centre = centre
        self._likelihood = numbers.likelihood
        self._committed, self._window = buffer.length, []
        total = buffer.length + self._base_rows
        self._next_decision = total + max(200, min(total // 3, self.options.buffer_frames // 4))

    def _publish(self) -> None:
        """Refine the halves, solve the map, rebuild the scoring map, trace atoms."""
        data, model = self._ready()
        buffer, rows = self._buffer, self._buffer.rows
        number = buffer.number[rows]
        with self._timed("refine"):
            grid = Grid(self.box_px, self.limits.refine_grid)
            real = branches.real_lattice(model.volume, model.grid, self.device, grid.samples)
            path = refine_halves(
                data, rows, number, buffer.path(), real, grid, self.limits.refine, self._band, self._base
            )
            buffer.accept(rows, path)
        with self._timed("solve"):
            solved = solve(data, rows, number, path, Grid(self.box_px, self.limits.final), self._base)
            self._published = publish(
                solved, self.pixel_size_A, self.lattice_constant_A or 3.97, self.options.element, self.device.threads
            )
            self._filled = self._filled_volume(path)

    def _filled_volume(self, path: Path) -> NDArray[np.float32]:
        data, model = self._ready()
        grid = Grid(self.box_px, self.limits.score_grid)
        sums = Accumulator(grid, 2, self.device)
        if self._base is not None:
            sums.add_cropped(self._base)
        buffer = self._buffer
        use = np.flatnonzero(path.used)
        data.insert(
            sums, branches.half_of(buffer.number[use]), use, path.poses[use], path.shifts[use], np.ones(len(use))
        )
        first, second = sums.sums(0), sums.sums(1)
        rough = rough_map(first[0] + second[0], first[1] + second[1], grid, self.device)
        real = branches.real_lattice(model.volume, model.grid, self.device, grid.samples)
        self._centre = branches.find_centre(rough, real, grid, self._band[0] * 0.85, self._band[1], self.device)
        return as_kernel_volume(filled_map(first, second, grid, self._centre, self.device).joint, self.device)

    def _forget(self, count: int) -> None:
        """Move the oldest settled rows from the buffer into the permanent sums."""
        data, _ = self._ready()
        count = min(count, self._committed)
        rows = np.arange(count)
        path = self._buffer.path(rows)
        if self._base is None:
            self._base = Accumulator(Grid(self.box_px, self.limits.final), 2, self.device)
        use = np.flatnonzero(path.used)
        half = branches.half_of(self._buffer.number[use])
        data.insert(self._base, half, use, path.poses[use], path.shifts[use], np.ones(len(use)))
        self._base_views = self._base_views + view_counts(path.poses[use])
        self._base_used += len(use)
        self._left.extend(pose_rows(self._buffer, rows, self._published, self.pixel_size_A))
        self._buffer.drop(count)
        self._committed -= count
        self._base_rows_count = self._base_rows + count

    _base_rows_count = 0

    @property
    def _base_rows(self) -> int:
        return self._base_rows_count

    def _ready(self) -> tuple[Whitened, LatticeModel]:
        if self._data is None or self._model is None:
            raise RuntimeError("the lattice has not been indexed yet")
        return self._data, self._model

    # ---------------------------------------------------------------- out

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """Final poses of frames that left the buffer since the last call."""
        left, self._left = tuple(self._left), []
        return left

    def status(self) -> ParticleStatus:
        """What is known now."""
        buffer, published = self._buffer, self._published
        used = buffer.used[: buffer.length]
        placed = self._state in ("MAPPING", "DONE")
        frames_used = self._base_used + int(used.sum()) if placed else 0
        unsure = buffer.length + self._base_rows - frames_used if placed else 0
        rejected = dict(self._rejected)
        if unsure:
            rejected["unsure pose"] = rejected.get("unsure pose", 0) + unsure
        in_flight = self._seen - frames_used - sum(rejected.values())
        per_frame = {k: 1e3 * v / max(self._done_frames, 1) for k, v in self._seconds.items()}
        return ParticleStatus(
            particle=self.particle,
            state=self._state,
            frames_seen=self._seen,
            frames_used=frames_used,
            frames_rejected=rejected,
            frames_in_flight=in_flight,
            lattice_constant_A=published.lattice_constant_A if published else self.lattice_constant_A,
            step_deg=self._step_deg if placed else None,
            resolution_A=published.resolution_A if published else None,
            fsc_k=published.fsc_k if published else (),
            fsc=published.fsc if published else (),
            coverage=self._base_views + view_counts(buffer.poses[: buffer.length][used]),
            slice_xy=central_layer(published.map, self.pixel_size_A) if published else None,
            atoms=len(published.atoms) if published else None,
            ms_per_frame=per_frame,
            note=self._note,
        )

    def result(self) -> ParticleResult | None:
        """Maps, atoms and the poses still in the buffer; None before the first map."""
        if self._published is None:
            return None
        rows = pose_rows(self._buffer, self._buffer.rows, self._published, self.pixel_size_A)
        return particle_result(self.status(), self._published, rows, self.pixel_size_A, self._likelihood)
