"""Multislice through abTEM: what the fast ways of imaging are measured against."""

import importlib
from typing import Any

import numpy as np
import pytest

from tumble.stream.simulator import Scene, scene_from_options

BARE: dict[str, Any] = {
    "frames": 4,
    "height_px": 96,
    "width_px": 96,
    "rotation_deg_per_axis": 40.0,
    "graphene_sheets": 0,
    "liquid_thickness_A": 0.0,
    "gain_residual": 0.0,
    "beam_fluctuation": 0.0,
    "seed": 4,
}


def contrast(scene: Scene) -> np.ndarray:
    electrons = scene.options.dose_e_per_A2 * scene.options.pixel_size_A**2
    return np.array([scene.expected(index) / electrons - 1 for index in range(3)])


@pytest.mark.multislice
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("mode", "slices", "least"), [("linear", 1, 0.97), ("phase", 1, 0.97), ("phase", 4, 0.98)])
def test_fast_images_agree_with_multislice(mode: str, slices: int, least: float) -> None:
    truth = contrast(scene_from_options(atoms=200, mode="multislice", **BARE))
    fast = contrast(scene_from_options(atoms=200, mode=mode, slices=slices, **BARE))
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(fast, truth, strict=True)]
    slope = (fast * truth).sum() / (fast**2).sum()
    print(f"{mode}, {slices} slices: correlation {np.round(correlation, 4)}, slope {slope:.3f}")
    assert min(correlation) > least
    assert slope == pytest.approx(1.0, abs=0.12)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"tumble-em\[multislice\]") as caught:
        scene_from_options(atoms=60, mode="multislice", **BARE)
    assert "\n" not in str(caught.value)
