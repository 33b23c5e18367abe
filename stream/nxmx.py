"""What stands in a recording beside its frames: groups and fields of NXmx (NeXus), as far as a stream tells them."""

from __future__ import annotations

import json
from typing import Any

import h5py

from .frame import SeriesStart


def lay_out(file: h5py.File, start: SeriesStart) -> h5py.Group:
    """Make the groups and fields; returns the group for the frames."""
    classes = {
        "entry": "NXentry",
        "entry/data": "NXdata",
        "entry/sample": "NXsample",
        "entry/instrument": "NXinstrument",
        "entry/instrument/beam": "NXbeam",
        "entry/instrument/detector": "NXdetector",
    }
    for name, kind in classes.items():
        file.create_group(name).attrs["NX_class"] = kind
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", "entry"
    file["entry"].attrs["default"] = "data"
    file["entry/definition"] = "NXmx"
    file["entry/sample/name"] = "unknown"
    for name, (value, units) in _fields(start).items():
        file[name] = value
        if units:
            file[name].attrs["units"] = units
    for name, table in (("pixel_mask", start.pixel_mask), ("flatfield", start.flatfield)):
        if table is not None:
            file.create_dataset(f"entry/instrument/detector/{name}", data=table, compression="gzip")
    file["entry/instrument/detector/data"] = h5py.SoftLink("/entry/data/data")
    group = file["entry/data"]
    group.attrs["signal"], group.attrs["axes"] = "data", [".", ".", "."]
    return group


def _fields(start: SeriesStart) -> dict[str, tuple[Any, str]]:
    """NXmx fields that the stream told: name: (value, units)."""
    detector, beam = "entry/instrument/detector/", "entry/instrument/beam/"
    fields: dict[str, tuple[Any, str]] = {
        detector + "description": (start.detector, ""),
        detector + "frame_time": (start.frame_time_s, "s"),
        detector + "flatfield_applied": (start.flatfield_applied, ""),
    }
    if start.voltage_kV:
        volts = start.voltage_kV * 1e3
        wavelength_A = 12.264259 / (volts * (1 + 0.97846e-6 * volts)) ** 0.5  # electrons, relativistic
        fields[beam + "incident_wavelength"] = (wavelength_A, "angstrom")
        fields[beam + "incident_energy"] = (volts, "eV")
    if start.user_data:
        fields[detector + "user_data"] = (json.dumps(dict(start.user_data), default=str), "")
    return {name: field for name, field in fields.items() if field[0] not in (None, "")}


def attributes(start: SeriesStart) -> dict[str, Any]:
    """What the dataset of the frames says of their series."""
    said = {
        "series_id": start.series_id,
        "unique_id": start.unique_id,
        "announced_images": start.number_of_images,
        "detector": start.detector,
        "frame_time_s": start.frame_time_s,
        "pixel_size_A": start.pixel_size_A,
        "dose_e_per_A2_per_frame": start.dose_e_per_A2,
        "voltage_kV": start.voltage_kV,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}
