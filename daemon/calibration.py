"""What is known of the detector: files the operator gave, and what the stream said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..stream.errors import RecordingError
from ..stream.frame import SeriesStart
from .config import DetectorSettings
from .errors import UsageError

if TYPE_CHECKING:
    from ..recon.frontend.correction import Calibration

Table = NDArray[Any]


@dataclass(slots=True)
class DetectorTables:
    """Tables from files; read once, before anything is started.

    Raises
    ------
    UsageError : a file cannot be read, or holds no image.
    """

    settings: DetectorSettings
    gain: Table | None = field(init=False)
    dark: Table | None = field(init=False)
    mask: Table | None = field(init=False)

    def __post_init__(self) -> None:
        """Read the files."""
        self.gain = _read(self.settings.gain_file, "gain")
        self.dark = _read(self.settings.dark_file, "dark")
        self.mask = _read(self.settings.mask_file, "mask")

    def calibration(self, start: SeriesStart | None, height: int, width: int) -> Calibration:
        """Calibration for frames of (height, width) pixels, with lines for the operator.

        A table of another size is left out and named: a series is worth more than its correction.
        """
        from ..recon.frontend.correction import Calibration, good_pixels  # with a compiler

        words: list[str] = []
        settings = self.settings
        wanted = [
            ("gain", self.gain, f"detector.gain_file {settings.gain_file}"),
            ("dark", self.dark, f"detector.dark_file {settings.dark_file}"),
            ("bad", self.mask, f"detector.mask_file {settings.mask_file}"),
        ]
        if start is not None:
            wanted.append(("bad", start.pixel_mask, "pixel mask of the stream"))
            if settings.flatfield == "auto" and not start.flatfield_applied:
                wanted.append(("gain", start.flatfield, "flat field of the stream"))
        known: dict[str, Table] = {}
        sources: dict[str, str] = {}
        for name, table, source in wanted:
            if table is None:
                continue
            if table.shape != (height, width):
                size = " x ".join(str(side) for side in reversed(table.shape))
                words.append(f"{source} is {size} px, but frames are {width} x {height} px: it is not used")
            elif name == "bad":
                known[name] = (table != 0) | known.get(name, np.zeros(table.shape, bool))
            elif name not in known:  # what the operator gave comes first
                known[name], sources[name] = table, source
        if "bad" in known and known["bad"].all():
            words.append("the pixel mask leaves no pixel: it is not used")
            del known["bad"]
        bad = known.get("bad", np.zeros((height, width), bool))
        for name, source in sources.items():
            worse = bad | ~good_pixels(known[name], name)
            if worse.all():
                words.append(f"{source} leaves no pixel: it is not used")
                del known[name]
            else:
                bad = worse
                words.append(f"{name} corrected by the {source}")
        if "bad" in known:
            words.append(f"{int(known['bad'].sum())} bad pixels are known beforehand")
        return Calibration(known.get("dark"), known.get("gain"), known.get("bad"), tuple(words))


def _read(path: Path | None, name: str) -> Table | None:
    if path is None:
        return None
    from ..stream.tables import read_table

    try:
        return read_table(path)
    except RecordingError as error:
        raise UsageError(f"detector.{name}_file: {error}") from None
