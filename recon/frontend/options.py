"""Settings of the front end; every length in A, so that they hold at any magnification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FrontEndOptions:
    """What an operator may want to change about detection and tracking.

    Attributes
    ----------
    window_frames : frames gathered before the first full-field detection; they are tracked afterwards.
    window_bytes : upper bound of the memory that the detection window may hold; large frames shorten it.
    sum_frames : frames summed before anything else; None: decided once from the measured rotation, 1 when that is fast
        or unknown.
    lag_frames : fixed lag of the smoother; a box is cut this many frames after its frame came in.
    z_threshold : detection threshold, robust standard deviations above the field's floor.
    min_excess : least rise of the lattice-band energy over its floor, as a fraction (guards against faint structure
        that averaging over many frames makes significant).
    min_diameter_A, max_diameter_A : particles outside are not taken.
    walk_A : random-walk step of a particle per axis and frame, standard deviation, A.
    energy_weight : weight of the lattice-energy log-likelihood against that of the disc (neighbouring bins are not
        independent, so the plain sum is overconfident).
    search_every : in this many frames the field is looked at once for newcomers: up to 512 x 512 px, and on a GPU, all
        of it in one frame, a larger one part by part (None: from the frame size, so that the cost of a frame stays
        bounded).
    search_frames : how many such looks make one search.
    noise_boxes : empty boxes taken per frame and box size for the noise spectrum.
    noise_memory : boxes after which the mean noise spectrum forgets exponentially.
    lost_frames : frames without evidence of the particle before its track is given up.
    dose_jump : relative change of the mean dose from the running median that rejects a frame.
    saturated_fraction : share of additional pixels at the top of the range that rejects a frame.
    device : where the pixels of frames are worked on; what that gains on a GPU has not been measured.
    """

    window_frames: int = 50
    window_bytes: int = 256 * 2**20
    sum_frames: int | None = None
    lag_frames: int = 10
    z_threshold: float = 8.0
    min_excess: float = 0.02
    min_diameter_A: float = 10.0
    max_diameter_A: float = 60.0
    walk_A: float = 0.215
    energy_weight: float = 0.12
    search_every: int | None = None
    search_frames: int = 25
    noise_boxes: int = 2
    noise_memory: int = 4000
    lost_frames: int = 60
    dose_jump: float = 0.25
    saturated_fraction: float = 1e-3
    device: Literal["cpu", "gpu"] = "cpu"

    def __post_init__(self) -> None:
        """Raise ValueError for values that cannot work."""
        positive = ("window_frames", "search_frames", "noise_memory", "lost_frames", "walk_A", "min_diameter_A")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"front end: {name} must be positive, not {getattr(self, name)}")
        if self.lag_frames < 0 or self.noise_boxes < 0:
            raise ValueError("front end: lag_frames and noise_boxes must not be negative")
        if self.sum_frames is not None and self.sum_frames < 1:
            raise ValueError(f"front end: sum_frames must be at least 1, not {self.sum_frames}")
        if self.max_diameter_A <= self.min_diameter_A:
            raise ValueError("front end: max_diameter_A must be larger than min_diameter_A")
