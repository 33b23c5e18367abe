"""The drawing itself, on cases whose answer is known."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tumble.dashboard.report import density as maps
from tumble.dashboard.report.chart import Chart, Series, Strip, draw, ticks
from tumble.dashboard.report.directions import project, sphere_image, unproject
from tumble.dashboard.report.motion import nice_bar, turns_deg
from tumble.dashboard.report.png import encode
from tumble.recon.coverage import view_grid


def decode(data: bytes) -> np.ndarray:
    """Pixels of a PNG that uses filter 1 only."""
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    channels = {0: 1, 2: 3, 6: 4}[kind]
    at, body = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, chunk = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + chunk)
        body += chunk if name == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 1).all()
    return np.cumsum(rows[:, 1:].reshape(height, width, channels), axis=1, dtype=np.uint64).astype(np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (4, 3, 3), (6, 2, 4)])
def test_png_round_trip(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert (decode(encode(image)).reshape(shape) == image).all()


def test_png_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="cannot be a PNG"):
        encode(np.zeros((4, 4, 2), np.uint8))


def ball(radius_A: float, step_A: float = 0.5, size: int = 40) -> np.ndarray:
    """A soft ball about voxel n // 2."""
    line = (np.arange(size) - size // 2) * step_A
    distance = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return (1 / (1 + np.exp((distance - radius_A) / 0.3))).astype(np.float32)


def test_band_limited_refinement_keeps_the_samples() -> None:
    volume = ball(5.0)
    assert np.allclose(maps.refine(volume, 2)[::2, ::2, ::2], volume, atol=1e-5)


@pytest.mark.parametrize("view", maps.VIEWS)
def test_a_ball_looks_like_a_disc_from_everywhere(view: str) -> None:
    density = maps.Density(ball(5.0), 0.5, 0.5, 9.0)
    image = maps.surface(density, view, 180)
    covered = np.count_nonzero(image[..., 3]) * (18.0 / 180) ** 2
    assert covered == pytest.approx(np.pi * 25, rel=0.03)
    rows, columns = np.nonzero(image[..., 3])
    assert abs(rows.mean() - 89.5) < 1
    assert abs(columns.mean() - 89.5) < 1
    light = image[..., :3].sum(axis=2).astype(int)
    assert light[60:80, 60:80].mean() > 1.2 * light[105:125, 105:125].mean()  # lit from the upper left


def test_nearer_hides_farther() -> None:
    volume = np.zeros((40, 40, 40), np.float32)
    volume[28:32, 18:23, 18:23] = 1.0  # nearer to an eye on +z
    volume[8:12, 10:31, 10:31] = 1.0
    image = maps.surface(maps.Density(volume, 0.5, 0.5, 9.0), "[001]", 180)
    opaque = image[..., 3]
    assert opaque.max() > 240
    assert opaque[opaque > 0].min() < 150  # fainter with depth


@pytest.mark.parametrize("bad", [np.zeros((8, 8, 8)), np.ones((8, 8, 9)), np.ones((4, 4, 4)), -np.ones((8, 8, 8))])
def test_maps_without_anything_to_draw_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="map"):
        maps.prepare(bad.astype(np.float32), 0.5)


def test_slices_are_the_right_way_up_and_go_through_atoms() -> None:
    volume = np.zeros((40, 40, 40), np.float32)
    volume[22, 30, 20] = 5.0  # z a little above the centre, y far up, x in the middle
    volume[22, 20, 10] = 3.0  # and one to the left
    cuts = {cut.plane: cut for cut in maps.slices(maps.Density(volume, 0.5, 0.5, 9.5))}
    assert cuts["xy"].offset_A == 1.0
    image = cuts["xy"].image
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (row, column) == (len(image) - 1 - (30 - 20 + len(image) // 2), len(image) // 2)
    assert image[len(image) - 1 - len(image) // 2, len(image) // 2 - 10] > 100


def test_mollweide_is_its_own_inverse_and_equal_area() -> None:
    rng = np.random.default_rng(2)
    longitude, latitude = rng.uniform(-3, 3, 500), np.arcsin(rng.uniform(-0.99, 0.99, 500))
    vectors = unproject(*project(longitude, latitude))
    expected = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=-1
    )
    assert np.abs(vectors - expected).max() < 1e-6
    image = sphere_image(np.where(view_grid()[:, 2] > 0.5, 3.0, 0.0), view_grid(), 400)
    inside = image[..., 3] > 0
    seen = inside & (image[..., 3] == 255)
    assert seen.sum() / inside.sum() == pytest.approx(0.5, abs=0.03)  # two caps of 60 degrees cover half of the sphere
    assert (image == image[::-1, :, :]).mean() > 0.6  # and both caps are there


def test_a_rotation_of_three_degrees_is_measured_as_such() -> None:
    half = np.radians(1.5 * np.arange(10))
    poses = np.zeros((10, 10))
    poses[:, 0], poses[:, 2], poses[:, 5], poses[:, 9] = np.arange(10), np.cos(half), np.sin(half), 1
    poses[4, 9] = 0
    poses[7:, 2:6] *= -1  # the other sign of a quaternion is the same rotation
    angles = turns_deg(poses)
    assert np.isnan(angles[[3, 4]]).all()
    assert np.nanmax(np.abs(angles - 3.0)) < 1e-6


@pytest.mark.parametrize(("width", "bar", "words"), [(30.0, 10.0, "1 nm"), (103.0, 20.0, "2 nm"), (6.0, 2.0, "2 Å")])
def test_scale_bars_are_round(width: float, bar: float, words: str) -> None:
    assert nice_bar(width) == (bar, words)


def test_ticks_are_round_and_within() -> None:
    assert ticks(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(3.1, 364.0, 7) == [100.0, 200.0, 300.0]
    assert ticks(1.0, 1.0) == [1.0]


def test_a_chart_survives_anything() -> None:
    nan, inf = float("nan"), float("inf")
    strip = Strip("state", [(0.0, 1.0, "A<b>", "good"), (5.0, 5.0, "never", "bad")])
    for series in (Series([], []), Series([1.0, nan, 2.0], [inf, 1.0, 2.0]), Series([1.0], [1.0], kind="step")):
        text = draw(Chart("t<", "x", "y", (series,), strips=(strip,), limits=((0.5, "<"),), marks=((9e9, "far"),)))
        assert "nan" not in text.replace("dominant", "")
        assert "inf" not in text
        assert "<b>" not in text
