"""Pictures of a density map: shaded surfaces along the axes of the lattice, and slices through layers of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Floats = NDArray[np.float64]
FINE = 2  # samples per voxel of a picture, by band-limited interpolation
LAYER_A = 1.2  # a slice may lie this far from the centre: the plane through it often lies between two layers of atoms
BLOCK = 4
LARGEST = 160  # voxels a side that are drawn; more are cut away around the particle, or thinned
TURNED_DEG = (11.0, 7.0)  # about the axes up and right
# rows: right, up, towards the eye. The body frame of a map has the axes of the cubic lattice.
VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "[001]": ((1, 0, 0), (0, 1, 0)),
    "[110]": ((-1, 1, 0), (0, 0, 1)),
    "[111]": ((-1, 1, 0), (-1, -1, 2)),
}


def basis(name: str, *, turned: bool = False) -> Floats:
    """(3, 3) orthonormal rows (x, y, z components): right, up and towards the eye, for a view of `VIEWS`.

    With `turned` a few degrees off the axis, so that the atoms of a column do not hide each other.
    """
    right, up = (np.array(axis, np.float64) / np.linalg.norm(axis) for axis in VIEWS[name])
    exact = np.stack([right, up, np.cross(right, up)])
    if not turned:
        return exact
    (a, b), (c, d) = ((np.cos(np.radians(t)), np.sin(np.radians(t))) for t in TURNED_DEG)
    about_up = np.array([[a, 0, b], [0, 1, 0], [-b, 0, a]])
    about_right = np.array([[1, 0, 0], [0, c, -d], [0, d, c]])
    return about_right @ about_up @ exact


@dataclass(frozen=True, slots=True, eq=False)
class Density:
    """A map made ready for drawing.

    Attributes
    ----------
    values : (n, n, n) float32 ``[z, y, x]``, body origin at voxel ``n // 2``.
    step_A : sampling, A.
    level : density of the surface that is drawn.
    radius_A : all that lies above `level` is within this distance of the origin.
    """

    values: Volume
    step_A: float
    level: float
    radius_A: float


def prepare(volume: Volume, voxel_A: float, atoms_A: Floats | None = None) -> Density:
    """Cut the map to the particle, sample it finer and choose the level of the surface.

    Parameters
    ----------
    volume : (n, n, n) float32 ``[z, y, x]``, body origin at voxel ``n // 2``.
    voxel_A : sampling, A.
    atoms_A : (m, 3) positions x, y, z of atoms in the body frame; they say where the particle is and how dense an atom.

    Raises
    ------
    ValueError : not a cube, empty, or without any density.
    """
    if volume.ndim != 3 or len(set(volume.shape)) != 1 or volume.shape[0] < 8 or voxel_A <= 0:
        raise ValueError(f"a map of shape {volume.shape} and voxel {voxel_A:g} A cannot be drawn")
    whole = np.nan_to_num(np.asarray(volume, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if float(whole.max()) <= 0:
        raise ValueError("the map holds no density")
    radius_A = whole.shape[0] / 2 * voxel_A
    if atoms_A is not None and len(atoms_A) >= 4:
        radius_A = min(radius_A, float(np.linalg.norm(atoms_A, axis=1).max()) + 1.5)
    half = min(whole.shape[0] // 2, int(np.ceil(radius_A / voxel_A)) + 1)
    middle = whole.shape[0] // 2
    cut = whole[(slice(middle - half, middle + half),) * 3]
    fine = FINE if 2 * half <= LARGEST else 1
    values = refine(cut, fine) if fine > 1 else cut
    level = _level(values, voxel_A / fine, atoms_A)
    return Density(values, voxel_A / fine, level, min(radius_A, half * voxel_A))


def refine(volume: Volume, factor: int) -> Volume:
    """Band-limited interpolation of an even cube to `factor` times as many samples; sample 0 stays where it was."""
    size = volume.shape[0]
    spectrum = np.fft.fftshift(np.fft.fftn(volume))
    padded = np.zeros((size * factor,) * 3, np.complex64)
    first = (size * factor - size) // 2
    padded[(slice(first, first + size),) * 3] = spectrum
    return np.ascontiguousarray(np.fft.ifftn(np.fft.ifftshift(padded)).real, np.float32) * factor**3


def _level(values: Volume, step_A: float, atoms_A: Floats | None) -> float:
    """A third of what a typical atom has at its centre; without atoms, what all but a few per cent lie below."""
    if atoms_A is not None and len(atoms_A) >= 4:
        at_atoms = sample(values, atoms_A / step_A + values.shape[0] // 2)
        typical = float(np.median(at_atoms))
        if typical > 0:
            return 0.3 * typical
    return max(float(np.percentile(values, 97)), 0.15 * float(values.max()))


def sample(values: Volume, places: Floats) -> NDArray[np.float32]:
    """Trilinear interpolation.

    Parameters
    ----------
    values : (n, n, n) float32 ``[z, y, x]``.
    places : (..., 3) x, y, z in voxels from the corner; beyond the edge the density is 0.

    Returns
    -------
    (...) float32.
    """
    size = values.shape[0]
    whole = np.floor(places).astype(np.int32)
    inside = ((whole >= 0) & (whole < size - 1)).all(axis=-1)
    whole = np.where(inside[..., None], whole, 0)
    share = np.where(inside[..., None], places - whole, 0).astype(np.float32)
    x, y, z = share[..., 0], share[..., 1], share[..., 2]
    flat, first = values.reshape(-1), (whole[..., 2] * size + whole[..., 1]) * size + whole[..., 0]

    def edge(offset: int) -> NDArray[np.float32]:
        low = flat[first + offset]
        line: NDArray[np.float32] = low + (flat[first + offset + 1] - low) * x
        return line

    square = size * size
    front, back = edge(0), edge(square)
    front += (edge(size) - front) * y
    back += (edge(square + size) - back) * y
    result: NDArray[np.float32] = np.where(inside, front + (back - front) * z, 0).astype(np.float32)
    return result


def surface(density: Density, view: str, size_px: int = 420) -> NDArray[np.uint8]:
    """The surface at ``density.level`` in parallel projection, lit from the upper left, deeper parts fainter.

    Rays are followed from the eye in steps of half a voxel of the original map until the density passes the level.

    Parameters
    ----------
    view : name of the direction towards the eye, see `VIEWS`; the eye is `TURNED_DEG` beside it.
    size_px : width and height of the picture, which shows ``2 * density.radius_A``.

    Returns
    -------
    (size_px, size_px, 4) uint8 RGBA; where there is no surface it is transparent.
    """
    right, up, eye = basis(view, turned=True)
    half, step_A = density.radius_A, density.step_A
    line = (np.arange(size_px) + 0.5) / size_px * 2 * half - half
    across, down = np.meshgrid(line, -line)
    disc = across**2 + down**2 < half**2
    start_A = across[disc][:, None] * right + down[disc][:, None] * up
    depth = _first_hit(density, start_A, eye)
    hit = np.isfinite(depth)
    places = (start_A[hit] + depth[hit, None] * eye) / step_A + density.values.shape[0] // 2
    normal = _normals(density.values, places)
    lit = _light(normal @ right, normal @ up, normal @ eye)
    image = np.zeros((size_px, size_px, 4), np.float64)
    far = np.full((size_px, size_px), -half)
    where = np.flatnonzero(disc)[hit]
    far.reshape(-1)[where] = depth[hit]
    crevice = _crevices(far, half)
    share = np.clip((depth[hit] + half) / (2 * half), 0, 1)  # 1 is nearest
    image.reshape(-1, 4)[where, :3] = lit * (crevice.reshape(-1)[where] * (0.62 + 0.38 * share))[:, None]
    image.reshape(-1, 4)[where, 3] = 255 * np.clip(0.25 + 1.05 * share, 0, 1)
    return np.clip(image, 0, 255).astype(np.uint8)


def _first_hit(density: Density, start_A: Floats, eye: Floats) -> Floats:
    """Distance along `eye`, A, at which each ray first meets the level; NaN where it never does."""
    values, half, step_A = density.values, density.radius_A, density.step_A
    middle = values.shape[0] // 2
    promising = _blocks(values) >= density.level
    reach = np.sqrt(np.maximum(half**2 - (start_A**2).sum(axis=1), 0))  # rays are followed within the sphere only
    depth = np.full(len(start_A), np.nan)
    active = np.arange(len(start_A))
    stride = step_A
    place = half
    while place > -half and len(active):
        inside = np.flatnonzero(np.abs(place) <= reach[active])
        places = (start_A[active[inside]] + place * eye) / step_A + middle
        cell = np.clip(places, 0, values.shape[0] - 1).astype(np.int32) // BLOCK
        there = promising[cell[:, 2], cell[:, 1], cell[:, 0]]
        inside, places = inside[there], places[there]
        found = sample(values, places) >= density.level
        hit = active[inside[found]]
        if len(hit):
            low, high = np.full(len(hit), place), np.full(len(hit), place + stride)
            for _ in range(5):
                mid = (low + high) / 2
                above = sample(values, (start_A[hit] + mid[:, None] * eye) / step_A + middle) >= density.level
                low, high = np.where(above, mid, low), np.where(above, high, mid)
            depth[hit] = low
            keep = np.ones(len(active), bool)
            keep[inside[found]] = False
            active = active[keep]
        place -= stride
    return depth


def _blocks(values: Volume) -> Volume:
    """The highest density that interpolation can find in each cube of `BLOCK` voxels: most of a map is empty."""
    for axis in range(3):
        values = np.maximum(values, np.roll(values, -1, axis))  # interpolation looks at the next voxel as well
    pad = -values.shape[0] % BLOCK
    values = np.pad(values, [(0, pad)] * 3)
    size = values.shape[0] // BLOCK
    highest: Volume = values.reshape(size, BLOCK, size, BLOCK, size, BLOCK).max(axis=(1, 3, 5))
    return highest


def _normals(values: Volume, places: Floats) -> Floats:
    """Unit vectors (m, 3) x, y, z out of the density at `places`, voxels, from differences over two voxels."""
    slope = np.empty_like(places)
    for axis in range(3):
        shift = np.zeros(3)
        shift[axis] = 1.0
        slope[:, axis] = sample(values, places - shift) - sample(values, places + shift)
    return slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-30)


_BASE = np.array([214.0, 178.0, 94.0])  # matt gold: neither white paper nor a dark page swallows it
_LIGHT = np.array([-0.45, 0.6, 0.66])


def _light(right: Floats, up: Floats, eye: Floats) -> Floats:
    """Lambert's law and a highlight (Blinn 1977): (m, 3) RGB 0..255 from the components of the normals."""
    toward = _LIGHT / np.linalg.norm(_LIGHT)
    diffuse = np.clip(right * toward[0] + up * toward[1] + eye * toward[2], 0, 1)
    halfway = toward + np.array([0, 0, 1.0])
    halfway /= np.linalg.norm(halfway)
    shine = np.clip(right * halfway[0] + up * halfway[1] + eye * halfway[2], 0, 1) ** 40
    return _BASE * (0.30 + 0.85 * diffuse)[:, None] + 90 * shine[:, None]


def _crevices(depth: Floats, half: float) -> Floats:
    """Factors 0..1 that darken what lies lower than its surroundings, as ambient light would."""
    factor = np.ones_like(depth)
    for width in (9, 25):
        lower = np.clip((_blur(depth, width) - depth) / (0.10 * half), 0, 1)
        factor *= 1 - 0.35 * lower
    return factor


def _blur(image: Floats, width: int) -> Floats:
    """Mean over a square of `width` pixels, the edge repeated."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (width // 2 + 1, width // 2)
        total = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis)
        low, high = [slice(None)] * 2, [slice(None)] * 2
        low[axis], high[axis] = slice(None, -width), slice(width, None)
        image = (total[tuple(high)] - total[tuple(low)]) / width
    return image


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A plane of the map as a grey picture.

    Attributes
    ----------
    plane : ``xy``, ``xz`` or ``yz``: what runs to the right and what upwards.
    offset_A : where the plane lies on the third axis, A.
    image : (n, n) uint8, no density black.
    width_A : what the picture shows, A.
    """

    plane: str
    offset_A: float
    image: NDArray[np.uint8]
    width_A: float


def slices(density: Density) -> list[Slice]:
    """Three planes at right angles, each through the layer of atoms next to the centre."""
    values, step_A = density.values, density.step_A
    middle = values.shape[0] // 2
    reach = max(0, round(LAYER_A / step_A))
    keep = min(middle, int(np.ceil(density.radius_A / step_A)))
    inner = slice(middle - keep, middle + keep)
    top = max(float(np.percentile(values, 99.95)), 1e-30)
    made = []
    for axis, plane in enumerate(("xy", "xz", "yz")):
        stack = np.moveaxis(values, axis, 0)[middle - reach : middle + reach + 1]
        strength = (np.clip(stack, 0, None).astype(np.float64) ** 2).sum(axis=(1, 2))
        best = int(np.argmax(strength))
        picture = np.clip(stack[best][inner, inner] / top, 0, 1) ** 0.8
        grey = (255 * picture[::-1]).astype(np.uint8)  # the first row of a picture is its top
        made.append(Slice(plane, (best - reach) * step_A, grey, 2 * keep * step_A))
    return made
