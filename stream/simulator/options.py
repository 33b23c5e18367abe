"""What a simulated recording is like: every knob of a scene, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from .optics import Optics

Mode = Literal["linear", "phase", "multislice"]


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """Recipe of a scene; the same options, crystals and seed give the same frames bit by bit.

    Attributes
    ----------
    frames, height_px, width_px, pixel_size_A, frame_time_s : the recording.
    dose_e_per_A2 : electrons per A^2 in every frame.
    mode : ``"phase"`` images the exit wave of each particle; ``"linear"`` adds stamps of atoms, several times faster;
        ``"multislice"`` is a ground truth through abTEM, seconds per frame (an extra).
    slices : slices of the exit wave in ``"phase"`` mode; 1 is a phase object.
    rotation_deg_per_axis : standard deviation of the rotation per lab axis and frame.
    step_px : standard deviation of a particle's Brownian step per axis and frame.
    homes_px : home (x, y) of every particle; None spreads them over the field.
    wander_px : radius of the disc around its home in which a particle stays; None takes all the room there is.
    height_spread_A, height_memory_frames : standard deviation and correlation time of a particle's height.
    stage_drift_A : largest excursion of the slow, smooth stage drift, which carries everything along.
    graphene_sheets : 0, 1 or 2; the second one also drifts relative to the first by `graphene_drift_A_per_frame`.
    graphene_height_A : distance of the sheets from the mid-plane.
    liquid_thickness_A : effective thickness of the water whose speckle is seen.
    gain_residual : relative spread of the fixed pattern left in the gain.
    beam_fluctuation : largest relative excursion of the beam current.
    sub_frames : poses per exposure; above 1 the rotation and motion within a frame blur it.
    blank_share, double_dose_share, dropped_share : shares of bad frames: no electrons, twice the dose, never sent.
    noise : False gives the expected counts times `noise_free_gain`, rounded, instead of Poisson counts.
    seed : everything random follows from it.
    """

    frames: int = 800
    height_px: int = 192
    width_px: int = 192
    pixel_size_A: float = 0.358
    frame_time_s: float = 0.0025
    dose_e_per_A2: float = 80.0
    optics: Optics = field(default_factory=Optics)
    mode: Mode = "phase"
    slices: int = 1
    rotation_deg_per_axis: float = 2.0
    step_px: float = 0.6
    homes_px: tuple[tuple[float, float], ...] | None = None
    wander_px: float | None = 20.0
    height_spread_A: float = 4.0
    height_memory_frames: float = 150.0
    stage_drift_A: float = 2.0
    graphene_sheets: int = 2
    graphene_height_A: float = 35.0
    graphene_drift_A_per_frame: float = 0.005
    liquid_thickness_A: float = 15.0
    gain_residual: float = 0.01
    beam_fluctuation: float = 0.03
    sub_frames: int = 1
    blank_share: float = 0.0
    double_dose_share: float = 0.0
    dropped_share: float = 0.0
    noise: bool = True
    noise_free_gain: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "height_px", "width_px", "slices", "sub_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("pixel_size_A", "frame_time_s", "dose_e_per_A2", "noise_free_gain", "height_memory_frames"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("rotation_deg_per_axis", "step_px", "height_spread_A", "stage_drift_A", "liquid_thickness_A"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("blank_share", "double_dose_share", "dropped_share", "gain_residual", "beam_fluctuation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if self.graphene_sheets not in (0, 1, 2):
            raise ValueError(f"graphene_sheets must be 0, 1 or 2, got {self.graphene_sheets}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
