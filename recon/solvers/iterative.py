"""Volumes from projections by accelerated descent: positive, within a support, with or without total variation.

Both minimise ``1/2 sum w (A x - b)^2 + weight TV(x)`` over ``x >= 0`` inside the support, by the fast proximal gradient
method (Beck & Teboulle, SIAM J. Imaging Sci. 2, 183 (2009)) with adaptive restart (O'Donoghue & Candes, Found. Comput.
Math. 15, 715 (2015)). No step has to be chosen: ``A' w A 1`` bounds the curvature voxel by voxel, because A has no
negative entry (separable surrogates: Erdogan & Fessler, Phys. Med. Biol. 44, 2835 (1999)). Without total variation this
is the model of RESIRE (Pham et al., Sci. Rep. 13, 5624 (2023)), with momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .projector import Projector
from .variation import VariationProx

TOLERANCE = 1e-3  # relative change of the volume in one iteration below which it is done
NOISE_FACTOR = 0.5  # of the noise that one voxel's gradient carries: default weight of the total variation


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A reconstruction and how it was reached.

    Attributes
    ----------
    volume : (nz, ny, nx) float32, image units per pixel of path, on the projector's device.
    residuals : ``|A x - b| / |b|`` (weighted, of the point from which each iteration starts), one per iteration.
    converged : the volume no longer changed, or the noise was reached; otherwise the iterations were used up.
    """

    volume: Any
    residuals: tuple[float, ...]
    converged: bool


def iterate(
    projector: Projector,
    images: Any,
    *,
    support: Any = None,
    weights: Any = None,
    start: Any = None,
    noise: float = 0.0,
    iterations: int = 60,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Positive least-squares reconstruction.

    Parameters
    ----------
    images : (m, h, w) float32, background taken off: what the volume alone would project to.
    support : (nz, ny, nx) bool, where the volume may be; everywhere when None.
    weights : (m, h, w) float32, inverse variance up to a factor; 0 leaves a pixel out. 1 when None.
    start : (nz, ny, nx) float32, a volume to begin with, such as the last one when an image has come; 0 when None.
    noise : standard deviation of the noise of a pixel (of weight 1), such as `noise_sigma` measures it: it ends when
        the images are explained as well as that, before their noise is (Morozov's discrepancy principle). 0: unused.
    iterations : at most so many, each a projection and its adjoint.
    tolerance : it ends when an iteration changes the volume by less than that share of its norm.

    Raises
    ------
    ValueError : shapes that do not fit, no image, or nothing but zeros in them.
    """
    device = projector.device
    support, weights = (None if a is None else device.asarray(a, np.float32) for a in (support, weights))
    curvature = _curvature(projector, support, weights)

    def step(point: Any, gradient: Any) -> Any:
        point = device.xp.maximum(point - gradient / curvature, 0)
        return point if support is None else point * support

    return _descend(projector, images, step, weights, start, iterations, tolerance, noise)


def total_variation(
    projector: Projector,
    images: Any,
    *,
    weight: float | None = None,
    support: Any = None,
    weights: Any = None,
    start: Any = None,
    iterations: int = 150,
    tolerance: float = TOLERANCE / 2,
) -> Solution:
    """As `iterate`, with the isotropic total variation of the volume kept small: for few projections (compressed
    sensing; Goris et al., Ultramicroscopy 113, 120 (2012); Sidky & Pan, Phys. Med. Biol. 53, 4777 (2008)).

    Parameters
    ----------
    weight : of the total variation; `variation_weight` of the images when None.

    Raises
    ------
    ValueError : as `iterate`.
    """
    device = projector.device
    support, weights = (None if a is None else device.asarray(a, np.float32) for a in (support, weights))
    if weight is None:
        weight = variation_weight(device.to_host(images))
    largest = float(_curvature(projector, support, weights).max())
    prox = VariationProx(weight / largest, support, device.xp)

    def step(point: Any, gradient: Any) -> Any:
        return prox(point - gradient / np.float32(largest))

    return _descend(projector, images, step, weights, start, iterations, tolerance)


def noise_sigma(images: NDArray[np.float32]) -> float:
    """Standard deviation of the noise of a pixel in (m, h, w) images, from their finest diagonal Haar wavelets
    (Donoho & Johnstone, Biometrika 81, 425 (1994)); pixels of 0, such as a masked background, are left out.
    """
    corners = images[:, :-1, :-1], images[:, 1:, 1:], images[:, :-1, 1:], images[:, 1:, :-1]
    detail = 0.5 * (corners[0] + corners[1] - corners[2] - corners[3])
    detail = detail[np.logical_and.reduce([c != 0 for c in corners])]
    return float(np.median(np.abs(detail)) / 0.6745) if detail.size else 0.0


def variation_weight(images: NDArray[np.float32]) -> float:
    """Weight of the total variation that suits the noise of (m, h, w) images: half of what noise does to the gradient
    of one voxel, which sums one pixel of each image.
    """
    return NOISE_FACTOR * noise_sigma(images) * float(np.sqrt(len(images)))


def _curvature(projector: Projector, support: Any, weights: Any) -> Any:
    """``A' w A 1`` over the support; where no image looks, a small positive number."""
    xp = projector.device.xp
    inside = xp.ones(projector.volume_shape, np.float32) if support is None else support
    projected = projector.forward(inside)
    curvature = projector.adjoint(projected if weights is None else projected * weights)
    return xp.maximum(curvature, np.float32(1e-3) * curvature.max())


def _descend(
    projector: Projector,
    images: Any,
    step: Callable[[Any, Any], Any],
    weights: Any,
    start: Any,
    iterations: int,
    tolerance: float,
    noise: float = 0.0,
) -> Solution:
    xp = projector.device.xp
    images = projector.device.asarray(images, np.float32)
    scale = float(xp.sqrt((images * images if weights is None else images * images * weights).sum()))
    pixels = images.size if weights is None else float((weights > 0).sum())
    if not scale > 0:
        raise ValueError("images hold nothing but zeros: nothing to reconstruct")
    volume = xp.zeros(projector.volume_shape, np.float32) if start is None else xp.asarray(start, dtype=np.float32)
    point, momentum, residuals = volume, 1.0, []
    for _ in range(iterations):
        rest = projector.forward(point) - images
        weighted = rest if weights is None else rest * weights
        misfit = float(xp.sqrt((rest * weighted).sum()))
        residuals.append(misfit / scale)
        if misfit <= noise * np.sqrt(pixels):
            return Solution(volume, tuple(residuals), True)
        new = step(point, projector.adjoint(weighted)).astype(np.float32, copy=False)
        change = new - volume
        if float(((point - new) * change).sum()) > 0:  # momentum leads uphill
            momentum = 1.0
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        point = new + np.float32((momentum - 1) / following) * change
        volume, momentum = new, following
        if float((change * change).sum()) <= tolerance**2 * float((volume * volume).sum()):
            return Solution(volume, tuple(residuals), True)
    return Solution(volume, tuple(residuals), False)
