"""The stages that the pipeline drives, as protocols, and where the real ones come from.

The pipeline knows no more of them than is written here; a test drives it with small stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from ..recon.records import NoiseSpectrum, Observation, ParticleResult, ParticleStatus, PoseRow, TrackedParticle
from ..stream.errors import RecordingError
from ..stream.frame import Quaternion, SeriesStart
from .calibration import DetectorTables
from .compiled import is_kept
from .config import Settings, TiltSettings, options_from
from .devices import Found
from .errors import UsageError
from .threads import front_end_threads

if TYPE_CHECKING:
    from ..recon.device import Device
    from ..recon.frontend.correction import Calibration
    from ..stream.tilts import Tilts


class FrontEndOutputLike(Protocol):
    """What one step of the front end gives back: see `recon.frontend.frontend.FrontEndOutput`."""

    @property
    def observations(self) -> tuple[Observation, ...]: ...
    @property
    def analysed(self) -> tuple[int, ...]: ...
    @property
    def rejected(self) -> tuple[tuple[int, str], ...]: ...
    @property
    def events(self) -> tuple[str, ...]: ...


class FrontEndLike(Protocol):
    """Background, detection and tracking: see `recon.frontend.frontend.FrontEnd`."""

    def step(self, index: int, time_s: float, data: NDArray[Any]) -> FrontEndOutputLike: ...
    def flush(self) -> FrontEndOutputLike: ...
    def noise(self, box_px: int) -> NoiseSpectrum | None: ...
    def particles(self) -> tuple[TrackedParticle, ...]: ...


@runtime_checkable
class PlacedFrontEnd(FrontEndLike, Protocol):
    """A front end of frames that bring their pose: see `recon.tilt_field.TiltField`."""

    def place(self, pose: Quaternion) -> None: ...


class ParticleLike(Protocol):
    """The reconstruction of one particle: see `recon.particle.ParticleReconstruction`."""

    def push(self, observation: Observation) -> None: ...
    def work(self) -> bool: ...
    def finish(self) -> None: ...
    def status(self) -> ParticleStatus: ...
    def result(self) -> ParticleResult | None: ...
    def drain_poses(self) -> tuple[PoseRow, ...]: ...


Noise = Callable[[], NoiseSpectrum | None]
OF_THE_MACHINE = {"pixel_size_A", "threads", "workers", "device", "gpus"}  # settings that are not of a particle


class Parts(Protocol):
    """Makes the stages of one series. `device` is asked in the process that reconstructs, before `particle`.

    `recover` is asked there after a particle has failed: why nothing works any more, or "". `begin` is told what the
    source says of the series, before `front_end` is asked for. What is `shared` belongs to the
    process: particles refer to it, checkpoints leave it out. Who waits may `rehearse`, in pieces: a worker what
    a particle takes, the daemon what a frame takes.
    """

    def begin(self, start: SeriesStart) -> None: ...
    def front_end(self, height: int, width: int, pixel_size_A: float) -> FrontEndLike: ...
    def device(self) -> Found: ...
    def recover(self) -> str: ...
    def rehearse(self) -> Iterator[None]: ...
    def rehearse_front_end(self) -> Iterator[None]: ...
    def particle(self, number: int, pixel_size_A: float, diameter_A: float, noise: Noise) -> ParticleLike: ...
    def shared(self) -> Mapping[str, object]: ...


class RealParts:
    """The front end and the reconstruction of this package, with the configured options.

    Raises
    ------
    UsageError : options that the stages do not have; at construction, before anything is started.
    """

    def __init__(self, settings: Settings) -> None:
        from ..recon.frontend.options import FrontEndOptions
        from ..recon.lens import Lens
        from ..recon.particle import ReconstructionOptions

        self._front_end_options = options_from(FrontEndOptions, settings.frontend, "frontend")
        chosen = settings.reconstruction.model_dump(exclude=OF_THE_MACHINE, exclude_none=True)
        lens = options_from(Lens, settings.optics.model_dump(), "optics")
        self._options = replace(options_from(ReconstructionOptions, chosen, "reconstruction"), lens=lens)
        self._tables = DetectorTables(settings.detector)
        self._tilts = settings.tilts
        self._angles = _tilt_file(settings.tilts)
        self._start: SeriesStart | None = None
        self._front_threads = front_end_threads(settings.reconstruction.threads)
        self._may_use_gpu = settings.reconstruction.device != "cpu"
        self._device: Device | None = None
        self._trouble = ""

    def begin(self, start: SeriesStart) -> None:
        """Note what the source says: its pixel mask and flat field are used."""
        self._start = start

    def front_end(self, height: int, width: int, pixel_size_A: float) -> FrontEndLike:
        """Front end for frames of (height, width) pixels of `pixel_size_A` angstrom."""
        from ..recon.frontend.frontend import FrontEnd

        calibration = self._tables.calibration(self._start, height, width)
        if self._tilts.poses is not None:
            return self._tilt_field(height, width, pixel_size_A, calibration)
        try:
            front_end: FrontEndLike = FrontEnd(
                height, width, pixel_size_A, self._front_end_options, calibration, threads=self._front_threads
            )
        except RuntimeError as error:
            raise UsageError(f"frontend.device is gpu, but there is {error}") from None
        return front_end

    def _tilt_field(self, height: int, width: int, pixel_size_A: float, calibration: Calibration) -> FrontEndLike:
        from ..recon.tilt_field import TiltField

        tilts, start = self._tilts, self._start
        try:
            field: FrontEndLike = TiltField(
                height, width, pixel_size_A, tilts.axis_deg, box=tilts.box, background=tilts.background,
                poses=self._angles, goniometer_deg=start.goniometer_deg if start and tilts.poses == "stream" else None,
                streamed=tilts.poses == "stream", calibration=calibration,
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(str(error)) from None
        return field

    def device(self) -> Found:
        """Get the device ready."""
        from ..recon.device import card, gpus_seen

        name = card(self._ready())
        return Found(name, gpus_seen() if self._may_use_gpu else 0, self._trouble)

    def recover(self) -> str:
        """Give back memory of the device that nobody uses; why it is of no more use, or ""."""
        from ..recon.device import recover

        return recover(self._ready())

    def rehearse(self) -> Iterator[None]:
        """Have compiled what a particle takes, unless it is kept; of a GPU nothing is."""
        from ..recon.rehearsal import COMPILED_LAST, rehearse

        device = self._ready()
        done = device.name == "cpu" and is_kept(COMPILED_LAST)
        return iter(()) if done or self._tilts.poses is not None else rehearse(device)

    def rehearse_front_end(self) -> Iterator[None]:
        """Have compiled what a frame takes."""
        from ..recon.rehearsal import rehearse_front_end

        if self._tilts.poses is not None:
            return iter(())
        return rehearse_front_end(self._front_end_options, self._front_threads)

    def _ready(self) -> Device:
        from ..recon.device import best, cpu

        if self._device is None:
            self._device, self._trouble = best() if self._may_use_gpu else (cpu(), "")
        return self._device

    def particle(self, number: int, pixel_size_A: float, diameter_A: float, noise: Noise) -> ParticleLike:
        """Reconstruction of particle `number` of `diameter_A` angstrom."""
        from ..recon.particle import ParticleReconstruction

        if self._tilts.poses is not None:
            from ..recon.tilt_series import TiltOptions, TiltReconstruction

            known, tilts = self._options, self._tilts
            options = TiltOptions(
                tilts.axis_deg,
                tilts.align,
                known.element,
                known.lattice_constant_A,
                known.target_resolution_A,
                tilts.wide,
                known.elements,
                tilts.thick,
                tilts.variation,
            )
            series: ParticleLike = TiltReconstruction(number, pixel_size_A, options, self._ready())
            return series
        particle: ParticleLike = ParticleReconstruction(
            number, pixel_size_A, diameter_A, noise, self._options, self._ready()
        )
        return particle

    def shared(self) -> Mapping[str, object]:
        """The device, by name."""
        return {"device": self._ready()}


def _tilt_file(tilts: TiltSettings) -> Tilts:
    """Poses from the file that the operator gave; none when the stream brings them.

    Raises
    ------
    UsageError : there is no file, or no poses are in it.
    """
    if tilts.poses != "file":
        return {}
    if tilts.file is None:
        raise UsageError("poses from a file, but no file: give it with --tilts, or as tilts.file")
    from ..stream.tilts import read_tilts

    try:
        return read_tilts(tilts.file, tilts.dataset)
    except RecordingError as error:
        raise UsageError(str(error)) from None
