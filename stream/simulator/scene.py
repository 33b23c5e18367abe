"""A scene of tumbling nanocrystals with known truth: yields the same events as a detector.

Any frame can be asked for by its number: motion is drawn once for the whole series, and the randomness of a frame
(liquid, counts) has a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..frame import Event, Frame, SeriesEnd, SeriesStart
from .background import Graphene, GrapheneSheet, Liquid, gain_residual
from .counts import frame_seed, poisson_counts
from .crystal import Crystal
from .exit_wave import PhaseRenderer
from .motion import between, bounded_walk, rotation_matrix, settling, smooth_wave, tumbling
from .options import SceneOptions
from .render import LinearRenderer, Renderer
from .truth import ParticleTruth, SceneTruth

EDGE_A = 4.0  # least distance of an atom from the edge of the field and of two particles from each other
STREAM_COUNTS, STREAM_LIQUID = 0, 1


class Scene:
    """Crystals tumbling in a field; iterate it for SeriesStart, Frame ..., SeriesEnd.

    Parameters
    ----------
    crystals : one per particle; none gives an empty scene.
    options : recipe, see `SceneOptions`.
    series_id : of the events.

    Raises
    ------
    ValueError
        If the crystals do not fit into the field side by side.
    ImportError
        If the mode is ``"multislice"`` and the extra that it needs is not installed.
    """

    def __init__(
        self, crystals: Sequence[Crystal] = (), options: SceneOptions | None = None, series_id: int = 1
    ) -> None:
        self.crystals = tuple(crystals)
        self.options = options if options is not None else SceneOptions()
        self.series_id = series_id
        recipe = self.options
        shape = (recipe.height_px, recipe.width_px)
        field_rng = np.random.default_rng([recipe.seed, 1])
        self._drift = np.stack(
            [smooth_wave(recipe.frames, recipe.stage_drift_A, 600.0, field_rng) for _ in range(2)], axis=1
        )
        self._beam = 1.0 + smooth_wave(recipe.frames, recipe.beam_fluctuation, 400.0, field_rng)
        self._beam[field_rng.random(recipe.frames) < recipe.double_dose_share] *= 2.0
        self._beam[field_rng.random(recipe.frames) < recipe.blank_share] = 0.0
        self._sent = field_rng.random(recipe.frames) >= recipe.dropped_share
        self._gain = gain_residual(shape, recipe.gain_residual, field_rng)
        sheets = _sheets(recipe, field_rng)
        self._graphene = Graphene(sheets, shape, recipe.pixel_size_A, recipe.optics)
        self._liquid = Liquid(recipe.liquid_thickness_A, shape, recipe.pixel_size_A, recipe.optics, field_rng)
        self._particles = self._move()
        self._renderer = self._make_renderer() if self.crystals else None

    def _make_renderer(self) -> Renderer:
        recipe = self.options
        elements = sorted({element for crystal in self.crystals for element in crystal.elements})
        radius = max(crystal.radius_A for crystal in self.crystals)
        if recipe.mode == "linear":
            height = radius + max(float(np.abs(particle.heights_A).max()) for particle in self._particles)
            return LinearRenderer(elements, recipe.pixel_size_A, recipe.optics, height)
        if recipe.mode == "multislice":
            from .multislice import MultisliceRenderer  # here, because it is an extra

            return MultisliceRenderer(recipe.pixel_size_A, recipe.optics, radius)
        return PhaseRenderer(elements, recipe.pixel_size_A, recipe.optics, radius, recipe.slices)

    def _move(self) -> tuple[ParticleTruth, ...]:
        recipe = self.options
        homes, rooms = _homes(self.crystals, recipe)
        particles = []
        for number, (crystal, home, room) in enumerate(zip(self.crystals, homes, rooms, strict=True)):
            rng = np.random.default_rng([recipe.seed, 2, number])
            wander = room if recipe.wander_px is None else min(recipe.wander_px, room)
            walk = bounded_walk(recipe.frames, recipe.step_px, wander, rng)
            particles.append(
                ParticleTruth(
                    name=particle_name(number),
                    crystal=crystal,
                    centres_px=home + walk + self._drift / recipe.pixel_size_A,
                    heights_A=settling(recipe.frames, recipe.height_spread_A, recipe.height_memory_frames, rng),
                    quaternions_wxyz=tumbling(recipe.frames, recipe.rotation_deg_per_axis, rng),
                    rotation_deg_per_axis=recipe.rotation_deg_per_axis,
                )
            )
        return tuple(particles)

    def __len__(self) -> int:
        return self.options.frames

    @property
    def start(self) -> SeriesStart:
        """What a source says before the first frame."""
        recipe = self.options
        physics = {
            "pixel_size_angstrom": recipe.pixel_size_A,
            "dose_e_per_A2": recipe.dose_e_per_A2,
            "voltage_kV": recipe.optics.voltage_kV,
        }
        return SeriesStart(
            series_id=self.series_id,
            unique_id=f"simulated-{recipe.seed}",
            width=recipe.width_px,
            height=recipe.height_px,
            dtype=np.dtype(np.uint16),
            number_of_images=recipe.frames,
            frame_time_s=recipe.frame_time_s,
            pixel_size_A=recipe.pixel_size_A,
            dose_e_per_A2=recipe.dose_e_per_A2,
            voltage_kV=recipe.optics.voltage_kV,
            detector="tumble simulator",
            user_data={"tumble": physics},
        )

    @property
    def truth(self) -> SceneTruth:
        """What is true of every frame."""
        return SceneTruth(self.options, self._particles, self._beam, self._drift)

    def pose(self, particle: int, index: int, offset: float = 0.0) -> NDArray[np.float64]:
        """(n, 3) float64 lab positions of a particle's atoms in A in frame `index`, x y from pixel (0, 0), z = height.

        `offset` (-0.5 to 0.5) moves within the exposure: along the shorter arc to the neighbouring frame's pose.
        """
        known = self._particles[particle]
        other = min(max(index + (1 if offset > 0 else -1), 0), len(self) - 1)
        share = abs(offset)
        quaternion = known.quaternions_wxyz[index]
        centre, height = known.centres_px[index], known.heights_A[index]
        if share > 0:
            quaternion = between(quaternion, known.quaternions_wxyz[other], share)
            centre = centre + share * (known.centres_px[other] - centre)
            height = height + share * (known.heights_A[other] - height)
        positions: NDArray[np.float64] = np.einsum("ai,xi->ax", known.crystal.positions_A, rotation_matrix(quaternion))
        positions[:, :2] += centre * self.options.pixel_size_A
        positions[:, 2] += height
        return positions

    def expected(self, index: int) -> NDArray[np.float32]:
        """(height, width) float32 expected electrons per pixel in frame `index`, no counting noise.

        Raises
        ------
        IndexError
            If the scene has no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} does not exist: the scene has {len(self)} frames")
        recipe = self.options
        field = self._graphene.contrast(index, self._drift[index])
        self._liquid.add(field, np.random.default_rng([recipe.seed, 3, index]))
        field += 1.0
        if self._renderer is not None:
            field *= self._particles_intensity(index, self._renderer)
        electrons = recipe.dose_e_per_A2 * recipe.pixel_size_A**2 * self._beam[index]
        field *= np.float32(electrons)
        field *= self._gain
        return np.maximum(field, 0.0, out=field)

    def _particles_intensity(self, index: int, renderer: Renderer) -> NDArray[np.float32]:
        recipe = self.options
        shape = (recipe.height_px, recipe.width_px)
        total = np.zeros(shape, dtype=np.float32)
        for part in range(recipe.sub_frames):
            offset = (part + 0.5) / recipe.sub_frames - 0.5
            intensity = np.ones(shape, dtype=np.float32)
            for number, crystal in enumerate(self.crystals):
                renderer.render(intensity, renderer.species(crystal.elements), self.pose(number, index, offset))
            total += intensity
        total /= recipe.sub_frames
        return total

    def counts(self, index: int) -> NDArray[np.uint16]:
        """(height, width) uint16 electron counts of frame `index`.

        Raises
        ------
        IndexError
            If the scene has no such frame.
        """
        expected = self.expected(index)
        if not self.options.noise:
            return np.minimum(np.rint(expected * self.options.noise_free_gain), 65535).astype(np.uint16)
        return poisson_counts(expected, frame_seed(self.options.seed, index, STREAM_COUNTS))

    def frame(self, index: int) -> Frame:
        """Frame `index` of the series.

        Raises
        ------
        IndexError
            If the scene has no such frame.
        """
        return Frame(self.series_id, index, self.counts(index), index * self.options.frame_time_s)

    def __iter__(self) -> Iterator[Event]:
        yield self.start
        for index in np.flatnonzero(self._sent):
            yield self.frame(int(index))
        yield SeriesEnd(self.series_id)


def particle_name(number: int) -> str:
    """Group name of a particle in the truth file: P, Q, R, ... Z, then P26, P27, ..."""
    letters = "PQRSTUVWXYZ"
    return letters[number] if number < len(letters) else f"P{number}"


def _sheets(recipe: SceneOptions, rng: np.random.Generator) -> tuple[GrapheneSheet, ...]:
    angles = rng.uniform(0.0, 60.0, size=2)
    origins = rng.uniform(0.0, 2.46, size=(2, 2))
    heading = rng.uniform(0.0, 2 * np.pi)
    drift = recipe.graphene_drift_A_per_frame * np.array([np.cos(heading), np.sin(heading)])
    sheets = (
        GrapheneSheet(float(angles[0]), -recipe.graphene_height_A, (0.0, 0.0), tuple(origins[0])),
        GrapheneSheet(float(angles[1]), recipe.graphene_height_A, tuple(drift), tuple(origins[1])),
    )
    return sheets[: recipe.graphene_sheets]


def _homes(crystals: Sequence[Crystal], recipe: SceneOptions) -> tuple[NDArray[np.float64], list[float]]:
    """Home x, y (n, 2) of every particle and the radius in pixels of the disc around it that is its own."""
    height, width = recipe.height_px, recipe.width_px
    homes = _spread(len(crystals), height, width) if recipe.homes_px is None else np.array(recipe.homes_px, dtype=float)
    if homes.shape != (len(crystals), 2):
        raise ValueError(f"homes_px must hold x, y of {len(crystals)} particles, got {recipe.homes_px}")
    rooms = []
    for number, (crystal, home) in enumerate(zip(crystals, homes, strict=True)):
        others = np.linalg.norm(np.delete(homes, number, axis=0) - home, axis=1)
        edge = min(home[0], home[1], width - 1 - home[0], height - 1 - home[1])
        reach = max(other.radius_A for other in crystals) if len(others) else crystal.radius_A
        needed = (reach + EDGE_A + np.sqrt(2.0) * recipe.stage_drift_A) / recipe.pixel_size_A
        room = min(edge, 0.5 * others.min(initial=np.inf)) - needed
        if room < 0:
            raise ValueError(
                f"the particles do not fit into {width} x {height} px side by side: particle {number + 1} of "
                f"{len(crystals)} has a radius of {crystal.radius_A:.1f} A; take a larger field or fewer"
            )
        rooms.append(float(room))
    return homes, rooms


def _spread(particles: int, height: int, width: int) -> NDArray[np.float64]:
    """Centres x, y (n, 2) of as many equal, nearly square cells."""
    columns = min(
        range(1, particles + 1), key=lambda n: abs(np.log(width / n / (height / -(-particles // n)))), default=1
    )
    rows = -(-particles // columns)
    row, column = np.divmod(np.arange(particles), columns)
    return np.stack([(column + 0.5) * width / columns - 0.5, (row + 0.5) * height / rows - 0.5], axis=1)
