"""The reconstruction of a tilt series: its books and states. A new map after every tilt; work depends on tilts only.

States: COLLECTING (too few tilts for two halves), MAPPING, DONE, FAILED (with a note).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .alloy import DARK_FIELD, UNKNOWN, counted, named, select, untold
from .atoms import Smooth, find_peaks, position_errors
from .clock import StepClock
from .coverage import CELLS, view_counts, view_directions
from .device import Device
from .kinds import FCC
from .metrics import cones, surface
from .metrics.efficiency import BEST, orientation_efficiency
from .metrics.sampling import FourierSampling
from .metrics.shells import resolution_A
from .output import central_layer
from .records import Atom, Milestone, Observation, ParticleResult, ParticleStatus, PoseRow, Trust, Verdict
from .tilt_verdict import TiltEvidence, TiltGeometry, judge_tilts, tilt_geometry, tilt_trust
from .tilts import TiltMaps, TiltVolume, half_by_rank, tilt_angles_deg

Floats = NDArray[np.float64]
LEAST_TILTS = 4  # two in each half
MOST_TILTS = 1000  # memory and time of a map grow with them
MOST_PX = 512  # edge of a map, 512 MiB, of which several are held
GROWTH = 1.25  # of the tilts, before the resolution by direction is measured again
FIRST_SHELL = 3  # below it halves always agree
AXES = 128
NEIGHBOUR_A = 2.7  # distance of atoms when nothing is known of the element


@dataclass(frozen=True, slots=True)
class TiltOptions:
    """What the operator may set for a tilt series.

    Attributes
    ----------
    axis_deg : direction of the tilt axis in the image, from x (columns) towards y (rows).
    align : match shifts and small turns of the tilts.
    wide, thick : how many fields wide the specimen is across the axis, and thick along the beam; variation : weight of
        the total variation; see `tilts.TiltVolume`.
    element, lattice_constant_A : where atoms may be; any when not given. elements : of an alloy, lightest first.
    target_resolution_A : what the operator wants.
    """

    axis_deg: float = 90.0
    align: bool = True
    element: str | None = None
    lattice_constant_A: float | None = None
    target_resolution_A: float = 1.0
    wide: float = 1.0
    elements: tuple[str, ...] = ()
    thick: float = 1.0
    variation: float = 0.0

    @property
    def neighbour_A(self) -> float:
        """Distance between neighbouring atoms."""
        metals = [FCC.metals[name] for name in (self.element, *self.elements) if name in FCC.metals]
        known = self.lattice_constant_A or (metals and float(np.mean(metals)))
        return known / float(np.sqrt(2)) if known else NEIGHBOUR_A


class TiltReconstruction:
    """Reconstruction of what a tilt series shows, from observations that bring their pose.

    Parameters
    ----------
    particle : its number. pixel_size_A : sampling. device : where to compute.

    A series that cannot be reconstructed is FAILED, with a note; nothing is raised.
    """

    def __init__(self, particle: int, pixel_size_A: float, options: TiltOptions, device: Device) -> None:
        self.particle, self.options = particle, options
        self._pixel_size_A, self._device = pixel_size_A, device
        self._pending: list[Observation] = []
        self._taken: list[Observation] = []  # without their images
        self._seen = 0
        self._rejected: Counter[str] = Counter()
        self._state, self._note = "COLLECTING", ""
        self._volume: TiltVolume | None = None
        self._maps: TiltMaps | None = None
        self._atoms: tuple[Atom, ...] = ()
        self._resolution_A: float | None = None
        self._milestone: Milestone | None = None
        self._measured_at = 0
        self._main_A: tuple[float | None, ...] = (None, None, None)
        self._verdict: Verdict | None = None
        self._trust = Trust(None, ("no map yet",))
        self.clock = StepClock()

    def push(self, observation: Observation) -> None:
        """Take one observation; cheap."""
        self._seen += 1
        if self._state == "FAILED":
            self._rejected["failed"] += 1
        elif not observation.accepted:
            self._rejected[observation.reason or "rejected"] += 1
        elif observation.pose is None:
            self._rejected["no pose"] += 1
        elif not np.isfinite(observation.box).all():
            self._rejected["not finite"] += 1
        elif self._seen - self._rejected.total() > MOST_TILTS:
            self._rejected["too many tilts"] += 1
        else:
            self._pending.append(observation)

    def work(self) -> bool:
        """Take in one tilt and make a new map; True when there was one."""
        if not self._pending or self._state == "FAILED":
            return False
        observation = self._pending.pop(0)
        if self._volume is None and not self._begin(observation):
            return True
        if self._volume is None or observation.pose is None:
            raise RuntimeError("a tilt without a volume or a pose")
        with self.clock("align"):
            self._volume.add(observation.box, observation.pose)
        self._taken.append(replace(observation, box=np.zeros((0, 0), np.float32)))
        if len(self._volume) >= LEAST_TILTS:
            self._solve(final=False)
        return True

    def _begin(self, first: Observation) -> bool:
        height, width = first.box.shape
        if max(height, width) > MOST_PX:
            self._fail(f"a field of {width} x {height} px; maps are up to {MOST_PX} px: give a smaller --tilt-box")
            return False
        known = self.options
        self._volume = TiltVolume(
            height,
            width,
            known.axis_deg,
            self._device,
            align=known.align,
            wide=known.wide,
            thick=known.thick,
            variation=known.variation,
        )
        return True

    def finish(self) -> None:
        """The series is over: align all tilts once more, solve to the end, trace atoms."""
        while self.work():
            pass
        if self._state == "MAPPING":
            self._solve(final=True)
            self._state = "DONE"
            self._judge()
        elif self._state == "COLLECTING":
            taken = len(self._taken)
            self._fail(f"only {taken} tilts with a pose, a map needs {LEAST_TILTS}" if self._seen else "no tilt")

    def _fail(self, why: str) -> None:
        self._state, self._note = "FAILED", why
        self._rejected["failed"] += self._seen - self._rejected.total()
        self._pending, self._taken = [], []

    def _angles_deg(self) -> Floats:
        """Angles as they were told: alignment changes them by little."""
        return tilt_angles_deg(np.array([seen.pose for seen in self._taken]), self.options.axis_deg)

    def _solve(self, *, final: bool) -> None:
        if self._volume is None:
            return
        try:
            with self.clock("solve"):
                self._maps = self._volume.solve(half_by_rank(self._angles_deg()), final=final)
        except ValueError as error:
            self._fail(str(error))
            return
        self._state = "MAPPING"
        with self.clock("metrics"):
            self._measure(self._maps, final=final)
            if final:
                self._atoms = self._trace(self._maps)
        self._judge()

    def _measure(self, maps: TiltMaps, *, final: bool) -> None:
        box_A = maps.joint.shape[0] * self._pixel_size_A
        tilts = len(self._taken)
        self._resolution_A = resolution_A(maps.fsc, box_A, first=FIRST_SHELL)
        short_A = (2 * len(maps.predicted) - 2) * self._pixel_size_A
        finest = 0 if self._resolution_A is None else min(len(maps.predicted) - 1, int(short_A / self._resolution_A))
        self._trust = tilt_trust(maps.predicted, finest, tilts)
        poses = np.array([seen.pose for seen in self._taken])
        sampled = FourierSampling(max(0.5, self._diameter_A() / self._target_A))
        sampled.add(view_directions(poses))
        now, newest = sampled.sampling, self._taken[-1]
        milestone = Milestone(
            frame=newest.frame, time_s=newest.time_s, frames_used=tilts, resolution_A=self._resolution_A,
            effective_views=now.effective_views, empty_fraction=now.empty_fraction, scf=now.scf,
            efficiency=min(1.0, orientation_efficiency(view_directions(poses)) / BEST),
        )  # fmt: skip
        if final or tilts >= GROWTH * self._measured_at:
            self._measured_at = tilts
            self._milestone = replace(milestone, sphericity=self._by_direction(maps, box_A))
        else:
            before = self._milestone.sphericity if self._milestone else None
            self._milestone = replace(milestone, sphericity=before)

    def _by_direction(self, maps: TiltMaps, box_A: float) -> float | None:
        """Resolution in cones along the tilt axis, across it and along the beam at zero tilt; the sphericity."""
        conical = cones.conical_correlation(maps.half1, maps.half2, None, AXES)
        angle = np.radians(self.options.axis_deg)
        axis = np.array([np.cos(angle), np.sin(angle), 0.0])
        across, beam = np.array([-axis[1], axis[0], 0.0]), np.array([0.0, 0.0, 1.0])
        nearest = [int(np.abs(conical.axes @ direction).argmax()) for direction in (axis, across, beam)]
        found = (resolution_A(conical.correlation[number], box_A, first=FIRST_SHELL) for number in nearest)
        self._main_A = tuple(found)
        try:
            return surface.sphericity(cones.resolved_body(conical))
        except ValueError:  # nothing is resolved in any direction
            return None

    def _diameter_A(self) -> float:
        """Of a ball with the second moment of the map."""
        if self._maps is None:
            return 0.0
        density = np.maximum(self._maps.joint, 0)
        total = float(density.sum())
        if total <= 0:
            return 0.0
        axis = np.arange(density.shape[0]) - density.shape[0] // 2
        lines = (density.sum(axis=tuple({0, 1, 2} - {n})) / total for n in range(3))
        spread = sum(float((line * axis**2).sum() - (line * axis).sum() ** 2) for line in lines)
        return 2 * float(np.sqrt(5 / 3 * max(spread, 0.0))) * self._pixel_size_A

    @property
    def _target_A(self) -> float:
        return max(self.options.target_resolution_A, 2 * self._pixel_size_A)

    def _trace(self, maps: TiltMaps) -> tuple[Atom, ...]:
        elements, distance_A = self.options.elements, self.options.neighbour_A
        peaks = find_peaks(maps.joint, self._pixel_size_A, distance_A)
        positions, confidence = select(peaks, distance_A, elements, DARK_FIELD)
        halves = Smooth.of(maps.half1, self._pixel_size_A), Smooth.of(maps.half2, self._pixel_size_A)
        errors = position_errors(halves, positions, self._pixel_size_A)
        symbols = elements or (self.options.element or UNKNOWN,)
        names, sure = named(maps.joint, self._pixel_size_A, positions, distance_A, symbols, DARK_FIELD)
        return tuple(
            Atom(name, (float(p[0]), float(p[1]), float(p[2])), float(c), float(e), float(s))
            for name, p, c, e, s in zip(names, positions, confidence, errors, sure, strict=True)
        )

    def _geometry(self) -> TiltGeometry | None:
        return tilt_geometry(self._angles_deg()) if self._maps is not None and self._taken else None

    def _judge(self) -> None:
        worst = None if None in self._main_A else max(value for value in self._main_A if value is not None)
        self._verdict = judge_tilts(
            self._verdict,
            TiltEvidence(
                state=self._state, note=self._remark(), frames_seen=self._seen, over=self._state == "DONE",
                target_A=self._target_A, geometry=self._geometry(), resolution_A=self._resolution_A, worst_A=worst,
                diameter_A=self._diameter_A(), trust=self._trust,
            ),
        )  # fmt: skip

    def _remark(self) -> str:
        if self._note or self._state != "COLLECTING":
            return self._note or untold(self._atoms, self.options.elements)
        return f"{len(self._taken)} of {LEAST_TILTS} tilts for the first map"

    def status(self) -> ParticleStatus:
        """What is known now; seen = used + rejected + in flight."""
        if self._verdict is None or self._state in ("COLLECTING", "FAILED"):
            self._judge()
        maps, used = self._maps, len(self._taken)
        poses = np.array([seen.pose for seen in self._taken]).reshape(-1, 4)
        layers = [central_layer(maps.joint, self._pixel_size_A, axis) for axis in range(3)] if maps else [None] * 3
        box_A = maps.joint.shape[0] * self._pixel_size_A if maps else 1.0
        tilts = max(used, 1)
        return ParticleStatus(
            particle=self.particle,
            state=self._state,
            frames_seen=self._seen,
            frames_used=used,
            frames_rejected={reason: count for reason, count in sorted(self._rejected.items()) if count},
            frames_in_flight=self._seen - used - self._rejected.total(),
            lattice_constant_A=None,
            step_deg=None,
            resolution_A=self._resolution_A,
            fsc_k=tuple(float(k) for k in np.arange(len(maps.fsc)) / box_A) if maps else (),
            fsc=tuple(float(value) for value in maps.fsc) if maps else (),
            coverage=view_counts(poses) if used else np.zeros(CELLS, np.int32),
            slice_xy=layers[0],
            atoms=len(self._atoms) if self._state == "DONE" else None,
            ms_per_frame={name: 1e3 * spent / tilts for name, spent in self.clock.wall.items()},
            note=self._remark(),
            trust=self._trust if self._state != "FAILED" else Trust(False, (self._note,)),
            slice_xz=layers[1],
            slice_yz=layers[2],
            target_A=self._target_A,
            milestone=self._milestone,
            verdict=self._verdict,
            elements=counted(self._atoms),
            tilts={name: value for name, value in self.geometry().items() if value is not None and np.isfinite(value)},
        )

    def drain_poses(self) -> tuple[PoseRow, ...]:
        """None: every pose may still change until the series is over."""
        return ()

    def result(self) -> ParticleResult | None:
        """Maps, atoms and poses; None before the first map."""
        maps, volume = self._maps, self._volume
        if maps is None or volume is None or self._state == "FAILED":
            return None
        return ParticleResult(
            status=self.status(),
            map=maps.joint,
            half1=maps.half1,
            half2=maps.half2,
            voxel_A=self._pixel_size_A,
            atoms=self._atoms,
            poses=self._pose_rows(volume),
            extra={"tilts": {**self.geometry(), **self._alignment(maps, volume)}},
            unfiltered=maps.unfiltered,
        )

    def _pose_rows(self, volume: TiltVolume) -> tuple[PoseRow, ...]:
        rows = []
        for seen, pose, shift in zip(self._taken, volume.poses, volume.shifts_px, strict=True):
            w, x, y, z = (float(value) for value in pose)
            place = (float(seen.centre_px[0] + shift[0]), float(seen.centre_px[1] + shift[1]))
            rows.append(PoseRow(seen.frame, seen.time_s, (w, x, y, z), place, 0.0, used=True))
        return tuple(rows)

    def geometry(self) -> dict[str, float | None]:
        """The series in numbers: `TiltGeometry`, with the resolutions along the tilt axis, across it and along the beam
        (``axis_A``, ``across_A``, ``beam_A``), where something is resolved. Empty before the first map.
        """
        geometry = self._geometry()
        if geometry is None:
            return {}
        known = {item.name: getattr(geometry, item.name) for item in fields(geometry) if item.name != "gap"}
        names = ("axis_A", "across_A", "beam_A")
        return {"axis_deg": self.options.axis_deg, **known, **dict(zip(names, self._main_A, strict=True))}

    @staticmethod
    def _alignment(maps: TiltMaps, volume: TiltVolume) -> dict[str, Any]:
        """What summary.json says besides."""
        return {
            "left_out_correlation": [round(float(value), 4) for value in maps.predicted],
            "matched": maps.matched,
            "shift_rms_px": float(np.sqrt((volume.shifts_px**2).sum(axis=1).mean())),
            **(dict(zip(("R", "R_other_half"), maps.misfit, strict=True)) if maps.misfit else {}),
        }
