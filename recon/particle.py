"""One particle from its first box to its atoms: its books and its states. Work depends on frame counts only.

States: COLLECTING (first frames), INDEXING (first map in the making), MAPPING (a map exists, frames stream in), DONE,
FAILED (with a note).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .alloy import counted, untold
from .change import Alarm
from .coverage import CELLS, view_directions
from .device import Device
from .errors import NoLatticeError, TwinnedError
from .geometry import box_size_px, half_plane
from .kinds import USUAL, Lattice, known_lattice, metals_that_fit
from .lens import Lens
from .limits import limits
from .mapper import MOST_ROUNDS, STREAM_ROUNDS, Mapper, MapperOptions
from .output import central_layer
from .progress import Progress, new_map, views_placed
from .records import NoiseSpectrum, Observation, ParticleResult, ParticleStatus, PoseRow, Trust, Verdict
from .residual import placed_atoms
from .strain import principal_percent
from .witness import Witness

LEAST_FRAMES = 150  # below this there is no map to judge the others by; fewer are never taken for a first map
TWIN_GROWTH = 2  # of the frames for a first map of a twin: of 400 one in six was a mixture, of 800 none in five
ANEW_GROWTH = 1.25  # of the frames between two decisions of all of them out of turn, which are dear
USUALLY_USED = 0.88  # share of frames with a sure pose: 0.92 and more of crystals that were right in full
HOT_PIXELS = 8  # that may not hold more than half of the power of a box
LEAST_NOISE_BOXES = 100  # below this the bootstrap waits for more background


def _unfit(box: NDArray[np.float32], box_px: int) -> str:
    """Why a box would poison the map, or ""; a cosmic ray is a few pixels that outweigh all the others."""
    if box.shape != (box_px, box_px):
        return "wrong box size"
    power = np.square(box, dtype=np.float64).ravel()
    total = float(power.sum())
    if not np.isfinite(total):
        return "not finite"
    return "hot pixels" if np.partition(power, -HOT_PIXELS)[-HOT_PIXELS:].sum() > 0.5 * total else ""


@dataclass(frozen=True, slots=True)
class ReconstructionOptions:
    """What the operator may set; everything has a default that needs no knowledge of the sample. `elements`, lightest
    first, are those of an alloy.
    """

    element: str | None = None
    lattice_constant_A: float | None = None
    bootstrap_frames: int = 400
    buffer_frames: int = 2000
    batch_frames: int = 50
    lag_frames: int = 100
    shift_sd_px: float = 1.5
    target_resolution_A: float = 1.0
    lens: Lens = field(default_factory=Lens)
    elements: tuple[str, ...] = ()


class ParticleReconstruction:
    """Reconstruction of one particle from its observations.

    Parameters
    ----------
    particle : its number. diameter_A : from detection. noise : returns the background spectrum of boxes of `box_px`, or
        None while too few empty boxes were seen. device : where to compute.

    A particle that cannot be reconstructed (pixels too coarse, no lattice, too few frames) is FAILED, with a note;
    nothing is raised.
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
        self.particle, self.options = particle, options
        self.box_px = box_size_px(diameter_A, pixel_size_A)
        self._noise = noise
        self._pending: list[Observation] = []
        self._seen = 0
        self._rejected: Counter[str] = Counter()
        self._state, self._note, self._alarm = "COLLECTING", "", ""
        self._mapper: Mapper | None = None
        self._progress: Progress | None = None
        self._left: list[PoseRow] = []
        self._newest_s = 0.0
        self._awaited = ""  # why it waits for more frames than the first
        self._first = self._wanted = max(options.bootstrap_frames, LEAST_FRAMES)  # frames before the first map
        self._witness: Witness | None = None
        self._anew_from = 0  # frames from which they may be decided anew out of turn
        self._change = Alarm()
        self._unchanged_A: NDArray[np.float64] | None = None  # atoms (n, 3) of the newest map from before a change
        constant_A = options.lattice_constant_A
        known = None if constant_A is None else known_lattice(constant_A, options.element)
        try:
            radii = limits(self.box_px, pixel_size_A, (known or USUAL).scale_A)
        except ValueError as error:
            self._fail(str(error))
            return
        # room for the provisional frames, the batch that comes and the settled one before them
        least = options.lag_frames + 3 * options.batch_frames
        sizes = MapperOptions(
            options.element, known, max(options.buffer_frames, self._wanted, least),
            options.lag_frames, options.shift_sd_px, options.lens, options.elements,
        )  # fmt: skip
        plane = half_plane(self.box_px, radii.largest)
        self._mapper = Mapper(plane, radii, pixel_size_A, diameter_A, sizes, device)
        box_A = self.box_px * pixel_size_A
        target_A = min(max(options.target_resolution_A, box_A / radii.final), diameter_A)
        self._progress = Progress(target_A, diameter_A, box_A)
        self._witness = Witness(self._another, self._wanted)

    def _another(self, frames: int, lattice: Lattice | None) -> Mapper:
        """A fresh mapper like the first one, for so many frames; a method, so that checkpoints can hold it."""
        like = self._mapping()
        few = replace(like.options, lattice=lattice, buffer_frames=frames, lens=like.lens)
        return Mapper(like.plane, like.limits, like.pixel_size_A, like.diameter_A, few, like.device)

    def push(self, observation: Observation) -> None:
        """Take one observation; cheap."""
        self._seen += 1
        self._newest_s = observation.time_s
        if self._state == "FAILED":
            self._rejected["no lattice"] += 1
        elif not observation.accepted:
            self._rejected[observation.reason or "rejected"] += 1
        elif reason := _unfit(observation.box, self.box_px):
            self._rejected[reason] += 1
        else:
            self._pending.append(observation)

    def work(self) -> bool:
        """Do one bounded piece of work if enough frames wait; True when it did."""
        if self._state == "COLLECTING" and len(self._pending) >= self._wanted:
            noise = self._noise()
            if noise is None or noise.boxes < LEAST_NOISE_BOXES:
                surplus = self._take(max(0, len(self._pending) - self._mapping().buffer.capacity))
                self._rejected["no background yet"] += len(surplus)
                return False
            self._state = "INDEXING"  # known before the longest piece of work begins
            return True
        if self._state == "INDEXING" and (noise := self._noise()) is not None:
            self._bootstrap(noise)
            return True
        if self._state == "MAPPING" and self._witness and self._witness.work(self._mapping(), self._noise):
            self._judge(self._mapping().used)  # here, so that no map depends on when the status is asked for
            return True
        if self._state == "MAPPING" and len(self._pending) >= self.options.batch_frames:
            self._advance()
            return True
        return False

    def _advance(self) -> None:
        mapper, taken = self._mapping(), self._take(self.options.batch_frames)
        before = mapper.published
        mapper.advance(taken)
        if self._witness:
            self._witness.take(taken, mapper.frames)
        if mapper.published is before:
            self._out_of_turn(mapper)
        if mapper.published is not before:
            self._watch(mapper)

    def _out_of_turn(self, mapper: Mapper) -> None:
        """Make a map where it may show that the target is reached. If too few sure poses are all that speaks against
        the one before, frames are decided anew for it: that makes more of them sure than deciding them as they come.
        """
        unsure = self._witness is not None and self._witness.only_unsure and mapper.frames >= self._anew_from
        trusted = self._trust().trusted is True
        if self._progress is None or self._alarm or not (trusted or unsure):
            return
        if not self._progress.due(*views_placed(mapper, self.options.lag_frames)):
            return
        if not trusted:
            mapper.redecide(rounds=STREAM_ROUNDS)
            self._anew_from = round(ANEW_GROWTH * mapper.frames)
        mapper.publish()

    def _watch(self, mapper: Mapper) -> None:
        """A map was made: what it is worth, and whether it still is that of the crystal."""
        self._collect(mapper)
        if self._progress:
            with mapper.clock("metrics"):
                self._progress.advance(new_map(mapper))
        self._alarm = self._change.hear(mapper.change(self._unchanged_A if self._alarm else None))
        if not self._alarm and mapper.published:
            self._unchanged_A = placed_atoms(mapper.published)
        self._judge(mapper.used)

    def finish(self) -> None:
        """The stream is over: place every frame, decide once more, refine, publish."""
        while self.work():
            pass
        if self._state == "COLLECTING":
            noise = self._noise()
            if len(self._pending) < LEAST_FRAMES:
                self._fail(f"only {len(self._pending)} usable frames, a lattice needs {LEAST_FRAMES}")
            elif noise is None:
                self._fail("no particle-free background to measure the noise on")
            else:
                self._bootstrap(noise, last=True)
        if self._state == "MAPPING":
            mapper = self._mapping()
            while self._pending:
                self._advance()
            mapper.redecide(rounds=MOST_ROUNDS, thorough=True)
            mapper.publish(thorough=True)
            if self._witness:
                self._witness.work(mapper, self._noise, last=True)
            self._watch(mapper)
            self._state = "DONE"

    def _take(self, count: int) -> list[Observation]:
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _bootstrap(self, noise: NoiseSpectrum, *, last: bool = False) -> None:
        """First map; a twin waits for more frames, and what shows no lattice is given as many before it is given up,
        unless these are the `last`: of half a twin each, 400 frames of 180 atoms showed none, and 800 did.
        """
        mapper = self._mapping()
        taken = self._take(mapper.buffer.capacity)
        try:
            mapper.bootstrap(taken, noise, 0 if last else TWIN_GROWTH * self._first)
        except NoLatticeError as error:
            if last or self._wanted > self._first:
                self._rejected["no lattice"] += len(taken)
                self._fail(str(error))
            else:
                self._wait(taken, mapper.options.lattice, f": {error}")
        except TwinnedError:
            self._wait(taken, mapper.lattice, " of a twinned crystal")
        else:
            self._state = "MAPPING"
            self._watch(mapper)

    def _wait(self, taken: list[Observation], lattice: Lattice | None, why: str) -> None:
        """Begin again with more frames, those `taken` among them."""
        mapper = self._mapping()
        self._pending, self._wanted, self._awaited = taken + self._pending, TWIN_GROWTH * self._first, why
        self._mapper = self._another(max(mapper.buffer.capacity, self._wanted), lattice)
        self._mapper.clock = mapper.clock
        self._witness = Witness(self._another, self._wanted)
        self._state = "COLLECTING"

    def _fail(self, why: str) -> None:
        self._state, self._note = "FAILED", why
        self._rejected["no lattice"] += len(self._pending)
        self._pending = []

    def _mapping(self) -> Mapper:
        if self._mapper is None:
            raise RuntimeError("this particle has failed")
        return self._mapper

    @property
    def mapper(self) -> Mapper | None:
        """The working side, for measurements; None when the particle cannot be reconstructed."""
        return self._mapper

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """Final poses of frames that left the bounded buffer since the last call."""
        if self._mapper:
            self._collect(self._mapper)
        left, self._left = tuple(self._left), []
        return left

    def _collect(self, mapper: Mapper) -> None:
        """Take the poses of frames that have left the buffer, and count their views."""
        left = mapper.drain_poses()
        self._left.extend(left)
        used = [row for row in left if row.used]
        if self._progress and used:
            views = view_directions(np.array([row.quaternion for row in used]))
            self._progress.leave(views, np.array([row.frame for row in used]))

    def status(self) -> ParticleStatus:
        """What is known now; seen = used + rejected + in flight."""
        mapper = self._mapper
        placed = mapper is not None and self._state in ("MAPPING", "DONE")
        rejected = Counter(self._rejected)
        used = mapper.used if mapper and placed else 0
        if mapper and placed and mapper.frames > used:
            rejected["unsure pose"] += mapper.frames - used
        published = mapper.published if mapper else None
        atoms = published.atoms if published else ()
        lattice, told = published.lattice if published else mapper.lattice if mapper else None, self.options
        layers = (
            [central_layer(published.map, mapper.pixel_size_A, i) for i in range(3)] if mapper and published else []
        )
        return ParticleStatus(
            particle=self.particle,
            state=self._state,
            frames_seen=self._seen,
            frames_used=used,
            frames_rejected={reason: count for reason, count in sorted(rejected.items()) if count},
            frames_in_flight=self._seen - used - rejected.total(),
            lattice_constant_A=lattice.constant_A if lattice else None,
            step_deg=mapper.step_deg if mapper and placed else None,
            resolution_A=published.resolution_A if published else None,
            fsc_k=published.fsc_k if published else (),
            fsc=published.fsc if published else (),
            coverage=mapper.views if mapper and placed else np.zeros(CELLS, np.int32),
            slice_xy=layers[0] if layers else None,
            atoms=len(published.atoms) if published else None,
            ms_per_frame={k: 1e3 * v / max(mapper.frames, 1) for k, v in mapper.clock.wall.items()} if mapper else {},
            note=self._note or self._alarm or self._remark() or untold(atoms, self.options.elements),
            trust=self._trust(),
            slice_xz=layers[1] if layers else None,
            slice_yz=layers[2] if layers else None,
            target_A=self._progress.target_A if self._progress else None,
            milestone=self._progress.history[-1] if self._progress and self._progress.history else None,
            forecast=self._progress.ahead(self._newest_s) if self._progress else None,
            verdict=self._judge(used),
            elements=counted(atoms),
            lattice=lattice.kind.name if lattice else None,
            twinned=bool(mapper and placed and mapper.site.twinned),
            metals=metals_that_fit(lattice) if published and lattice and not (told.element or told.elements) else (),
            strain_percent=principal_percent(mapper.site.strain) if mapper and placed else (),
        )

    def _judge(self, used: int) -> Verdict | None:
        if self._progress is None:
            return None
        published = self._mapper.published if self._mapper else None
        asked = self._witness is not None and not self._witness.has_judged(published)
        waits = self._state == "MAPPING" and asked and not self._alarm  # trust is about the map before: next work
        if waits and self._progress.verdict:
            return self._progress.verdict
        frames = self._mapper.frames if self._mapper else 0
        return self._progress.judge(
            state=self._state, frames_seen=self._seen, note=self._note or self._remark(), trust=self._trust(),
            unsure_share=1 - used / frames if used else 0.0, changing=self._alarm,
        )  # fmt: skip

    def _trust(self) -> Trust:
        if self._state == "FAILED":
            return Trust(False, (self._note,))
        if self._witness is None or self._state not in ("MAPPING", "DONE"):
            return Trust(None, ("no map yet",))
        trust = self._witness.trust
        if self._alarm:
            return replace(trust, trusted=False, reasons=(self._alarm, *trust.reasons))
        return self._progress.standing(trust) if self._progress else trust

    def _remark(self) -> str:
        """What the operator should know now, in words."""
        if self._state == "COLLECTING":
            if len(self._pending) < self._wanted:
                return f"{len(self._pending)} of {self._wanted} frames for the first map{self._awaited}"
            return f"waiting for {LEAST_NOISE_BOXES} particle-free boxes to measure the background on"
        mapper = self._mapper
        if mapper and mapper.frames and mapper.used < USUALLY_USED * mapper.frames:
            unsure = 100 * (1 - mapper.used / mapper.frames)
            other = "not one crystal" if mapper.site.twinned else "two lattices, as in a twin"
            return f"poses unsure in {unsure:.0f} % of the frames: too little signal, or {other}"
        return ""

    def result(self) -> ParticleResult | None:
        """Maps, atoms and the poses still in the buffer; None before the first map."""
        mapper = self._mapper
        if mapper is None or mapper.published is None:
            return None
        published = mapper.published
        return ParticleResult(
            status=self.status(),
            map=published.map,
            half1=published.half1,
            half2=published.half2,
            voxel_A=mapper.pixel_size_A,
            atoms=published.atoms,
            poses=mapper.poses(),
            extra={"likelihood_left_out": mapper.likelihood},
        )
