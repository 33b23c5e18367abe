"""Frozen records that pass between the stages of the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Quaternion = tuple[float, float, float, float]  # (w, x, y, z), unit length


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One particle in one frame, as the front end hands it to the reconstruction.

    Attributes
    ----------
    particle : number of the particle, from 1.
    frame : index of the frame in the series.
    time_s : time of the frame, seconds since the series began.
    box : (box_px, box_px) float32 ``[row=y, column=x]``, frame / local mean - 1 (dimensionless contrast), cut on whole
        pixels around the tracked centre; never interpolated.
    corner_px : (x, y) of ``box[0, 0]`` in the frame, whole pixels.
    centre_px : (x, y) smoothed track position in the frame, pixels.
    centre_sd_px : standard deviation of `centre_px` per axis, pixels.
    accepted : False when the observation must not enter the map; `reason` then says why (one or two words).
    pose : of the particle in the lab frame, where it came with the frame (a tilt series); the box then may have any
        sides, and holds the image less its background.
    """

    particle: int
    frame: int
    time_s: float
    box: NDArray[np.float32]
    corner_px: tuple[int, int]
    centre_px: tuple[float, float]
    centre_sd_px: float
    accepted: bool = True
    reason: str = ""
    pose: Quaternion | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NoiseSpectrum:
    """Power spectrum of the background, from particle-free boxes of the same movie.

    Attributes
    ----------
    power : (box_px, box_px) float32, centred (zero frequency at ``[n // 2, n // 2]``), power per Fourier coefficient of
        a soft-masked box divided by the sum of the squared mask; white noise of variance s2 gives s2 everywhere.
    boxes : how many boxes were averaged.
    """

    power: NDArray[np.float32]
    boxes: int


@dataclass(frozen=True, slots=True)
class TrackedParticle:
    """What is known of a particle from detection and tracking alone."""

    particle: int
    centre_px: tuple[float, float]
    diameter_A: float
    z_score: float
    state: str = "tracked"  # tracked | lost | left


@dataclass(frozen=True, slots=True, eq=False)
class Atom:
    """One atom of a model: element symbol, position (x, y, z) in A in the body frame, confidence 0..1, and the standard
    error of the position per axis, in A, as far as the half maps tell it. Of an alloy, `element_confidence` is
    the probability that it is that element; NaN where that was not measured.
    """

    element: str
    position_A: tuple[float, float, float]
    confidence: float
    error_A: float = float("nan")
    element_confidence: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class PoseRow:
    """One line of poses.csv: ``r_lab = R(q) r_body + centre``."""

    frame: int
    time_s: float
    quaternion: tuple[float, float, float, float]  # w, x, y, z
    centre_px: tuple[float, float]
    score: float  # log-likelihood of the pose against no particle, natural units
    used: bool


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the map is right, from evidence that needs no truth; the halves' FSC is none, wrong poses keep it high.

    Numbers that could not be had are None.

    Attributes
    ----------
    trusted : None while it has not been judged.
    reasons : in words for the operator: what speaks against the map, or what is still awaited; of a trusted one, that
        an earlier second map bore it out and the newest cannot tell; else empty.
    frames : frames of the particle when it was last judged.
    agreement : F1 at 0.6 A, 0 to 1, of the atoms of two maps that share no frame and were begun independently, under
        the best of the gauges (rotations of the lattice, either hand).
    gap : by how much that gauge beats the second best; a crystal that looks the same in two gauges certifies no pose.
    agreement_rms_A : rms distance of the atoms that agree.
    pose_agreement : share of frames to which both reconstructions gave the same pose, in that one gauge; without those
        where both maps refute the second pose.
    upheld : share of the stretches of frames whose branch wins on the second map, too.
    second_margin : log-likelihood per frame by which it wins there, in the stretch where that is least.
    branch_margin : log-likelihood per frame by which the accepted branch beats its best alternative, in the stretch of
        frames where that is least.
    likelihood : log-likelihood per frame against no particle, each frame against a map without it.
    used_share : share of frames whose pose was sure.
    lattice_rms_A : rms distance of atoms from the lattice that their neighbours span.
    packing : mean number of neighbours of an atom, relative to a crystal of as many; less where the lattice is another.
    vacuum_share : share of atoms outside the body of the crystal.
    shape : overlap, 0 to 1, of the shapes of the two maps.
    unseen_share : share of the directions of Fourier space that no view has measured, which both maps lack alike.
    mixed_share : places where only some of the frames show an atom, of as many as the map has atoms, between the two
        groups of frames that differ most; two crystals that took turns, or parts of the movie on a wrong branch.
    weakest_shell : correlation, -1 to 1, of the map with its own atoms in the shell where that is least, of those in
        which the half maps agree; negative where the lens has turned the contrast over.
    """

    trusted: bool | None
    reasons: tuple[str, ...] = ()
    frames: int = 0
    agreement: float | None = None
    gap: float | None = None
    agreement_rms_A: float | None = None
    pose_agreement: float | None = None
    upheld: float | None = None
    second_margin: float | None = None
    branch_margin: float | None = None
    likelihood: float | None = None
    used_share: float | None = None
    lattice_rms_A: float | None = None
    packing: float | None = None
    vacuum_share: float | None = None
    shape: float | None = None
    unseen_share: float | None = None
    mixed_share: float | None = None
    weakest_shell: float | None = None


@dataclass(frozen=True, slots=True)
class Milestone:
    """How far the reconstruction of a particle had come when a map was made.

    Attributes
    ----------
    frame, time_s : newest frame in the map, and its time. frames_used : frames in the map.
    resolution_A : half-map FSC 0.143; None when it begins below.
    effective_views : number of evenly spread views that measure the same directions as well, see `metrics.sampling`.
    empty_fraction : share of the directions of Fourier space, at the target resolution, that no view has measured.
    step_deg : rotation per frame, rms per axis, since the milestone before.
    drift_deg : the same of a free crystal that would get as far in 25 frames, see `outlook.drift_deg`.
    held_fraction : share of the directions that stay unmeasured because the crystal is held, see `outlook.held_void`.
    scf : sampling compensation factor; it ignores what `empty_fraction` counts.
    efficiency : E_od as a share of what perfectly even views give, 0 to 1.
    weakest_cone : agreement of the map with its atoms in the cone of directions where it is least, of that in the
        middle one, see `metrics.cones`; None without atoms.
    sphericity : of the surface up to which each direction is resolved, of a tilt series.
    novelty_per_s : share of the directions that became measured, per second, since the milestone before.
    fresh_views_per_s : effective views gained per second since the milestone before.
    """

    frame: int
    time_s: float
    frames_used: int
    resolution_A: float | None
    effective_views: float
    empty_fraction: float
    step_deg: float | None = None
    drift_deg: float | None = None
    held_fraction: float = 0.0
    scf: float = 0.0
    efficiency: float | None = None
    weakest_cone: float | None = None
    sphericity: float | None = None
    novelty_per_s: float = 0.0
    fresh_views_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until `target_A`, counted from the newest milestone: interval of 90 % and median. None is never, or not
    known; `words` then say why.
    """

    target_A: float
    low_s: float | None
    median_s: float | None
    high_s: float | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word for the operator, with its reasons.

    Attributes
    ----------
    word : SEARCHING (no map yet), CONTINUE, ENOUGH, PLATEAU (more of the same will not help), STARVED (too few fresh
        views), LOST (the track), CHANGING (the structure).
    reasons : in words, the most important first.
    since_frame : frames of the particle when the word was first said.
    proposed, proposals : a word that has been found but not been said yet, and at how many milestones in a row.
    milestone : frames in the map when it was last judged.
    """

    word: str
    reasons: tuple[str, ...] = ()
    since_frame: int = 0
    proposed: str = ""
    proposals: int = 0
    milestone: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ParticleStatus:
    """What the live path can say about one particle at any moment; small, cheap to make.

    `state` is COLLECTING (gathering the first frames), INDEXING (lattice modulo 48), MAPPING (map exists, streaming),
    FAILED (no lattice found), LOST (track lost), DONE.
    """

    particle: int
    state: str
    frames_seen: int
    frames_used: int
    frames_rejected: dict[str, int]
    frames_in_flight: int
    lattice_constant_A: float | None
    step_deg: float | None  # rotation per frame, rms per axis
    resolution_A: float | None  # half-map FSC 0.143
    fsc_k: tuple[float, ...]  # 1/A
    fsc: tuple[float, ...]
    coverage: NDArray[np.int32]  # (n_views,) counts per cell of `recon.coverage.view_grid`
    slice_xy: NDArray[np.float32] | None  # central layer [y, x] of the map, `output.central_layer`
    atoms: int | None
    ms_per_frame: dict[str, float]  # by step
    note: str = ""
    trust: Trust | None = None
    slice_xz: NDArray[np.float32] | None = None  # the same along y, [z, x]
    slice_yz: NDArray[np.float32] | None = None  # and along x, [z, y]
    target_A: float | None = None  # resolution that the operator wants, no finer than the pixels allow
    milestone: Milestone | None = None  # of the newest map
    forecast: Forecast | None = None  # counted from the newest frame
    verdict: Verdict | None = None
    elements: dict[str, int] = field(default_factory=dict)  # atoms of each, of an alloy
    tilts: dict[str, float] = field(
        default_factory=dict
    )  # of a tilt series: see `tilt_series.TiltReconstruction.geometry`
    lattice: str | None = None  # its kind: "fcc", "bcc", "hcp", "decahedral", "icosahedral"
    twinned: bool = False  # two grains of it that share a (111) plane
    metals: tuple[str, ...] = ()  # that have its constant, nearest first; empty where the element was told
    strain_percent: tuple[float, ...] = ()  # principal strains, largest first, less their mean; empty: none


@dataclass(frozen=True, slots=True, eq=False)
class ParticleResult:
    """Everything written to the session folder for one particle.

    Volumes are ``[z, y, x]`` float32 with the body origin at voxel ``n // 2``; `voxel_A` is their sampling.
    """

    status: ParticleStatus
    map: NDArray[np.float32]
    half1: NDArray[np.float32]
    half2: NDArray[np.float32]
    voxel_A: float
    atoms: tuple[Atom, ...]
    poses: tuple[PoseRow, ...]
    extra: dict[str, Any]
    unfiltered: NDArray[np.float32] | None = None  # the map as the solver left it, of a tilt series
