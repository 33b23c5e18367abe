"""Particles shared out among threads, and a large field looked at part by part."""

from __future__ import annotations

import itertools
from threading import Event

import numpy as np
import pytest

from tumble.recon.device import cpu
from tumble.recon.frontend.bands import MapMaker, sampling_for
from tumble.recon.frontend.feed import Feed
from tumble.recon.frontend.followers import clusters
from tumble.recon.frontend.frontend import FrontEnd
from tumble.recon.frontend.options import FrontEndOptions
from tumble.recon.frontend.search import Searcher
from tumble.recon.frontend.tiles import in_pixels, tiles_of

PIXEL_A = 0.358


def everything(frames, threads):
    """All observations of a movie as arrays, and the noise spectrum."""
    front = FrontEnd(*frames.shape[1:], PIXEL_A, FrontEndOptions(window_frames=30), threads=threads)
    outputs = [front.step(index, index * 0.0025, frame) for index, frame in enumerate(frames)]
    seen = [o for out in (*outputs, front.flush()) for o in out.observations]
    noise = front.noise(seen[0].box.shape[0])
    return (
        [(o.particle, o.frame, o.corner_px, o.centre_px, o.centre_sd_px, o.reason) for o in seen],
        [o.box for o in seen],
        None if noise is None else noise.power,
    )


def test_no_bit_depends_on_the_number_of_threads(twin_maker):
    """Five particles, of which two cross: more pieces than threads, and one piece that must stay in order."""
    starts = ((60.0, 60.0), (170.0, 65.0), (210.0, 70.0), (80.0, 190.0), (200.0, 195.0))
    still, left, right = (0.0, 0.0), (-0.5, 0.0), (0.5, 0.0)
    frames = twin_maker(
        count=60,
        shape=(260, 270),
        starts=starts,
        diameters_A=(20.0, 18.0, 18.0, 20.0, 24.0),
        velocity=(still, right, left, still, still),
    ).frames
    alone, shared = everything(frames, 1), everything(frames, 3)
    assert len({row[0] for row in alone[0]}) >= 4
    assert alone[0] == shared[0]
    for ours, theirs in zip(alone[1], shared[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(alone[2], shared[2])


def test_clusters_are_what_reaches_one_another():
    assert clusters([]) == []
    assert clusters([[], [], []]) == [[0], [1], [2]]
    assert clusters([[3], [], [4], [], [3], []]) == [[0, 2, 3, 4], [1], [5]]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_frame_is_kept_and_its_counts_are_summed(kind, threads):
    rng = np.random.default_rng(3)
    data = rng.integers(0, 100, (37, 20000)).astype(kind)
    if kind != np.float32:
        data[rng.random(data.shape) < 0.3] = np.iinfo(kind).max
    kept, levels = Feed(data.shape, cpu(threads)).keep(data)
    np.testing.assert_array_equal(kept, data)
    assert kept is not data
    if np.dtype(kind).itemsize > 2:
        assert levels is None
    else:
        assert levels.total == int(data.sum(dtype=np.int64))
        assert levels.at_top == int((data == np.iinfo(kind).max).sum())
        np.testing.assert_array_equal(levels.sample, data.reshape(-1)[:: data.size // 4096])


@pytest.mark.parametrize(
    ("shape", "most", "count"),
    [((1920, 1792), 100, 56), ((1920, 1792), 9, 9), ((700, 530), 100, 6), ((700, 530), 1, 1)],
)
def test_tiles_cover_a_field_once_and_lie_in_their_windows(shape, most, count):
    sampling = sampling_for(PIXEL_A)
    tiles, window = tiles_of(*shape, sampling, most)
    assert len(tiles) == count
    seen = np.zeros((shape[0] // sampling.bin_px, shape[1] // sampling.bin_px), int)
    whole = np.arange(seen.size).reshape(seen.shape)
    for tile in tiles:
        seen[tile.there] += 1
        bins = [side // sampling.bin_px for side in window]
        first_row, first_column = tile.window
        view = whole[first_row : first_row + bins[0], first_column : first_column + bins[1]]
        assert view.shape == tuple(bins)
        np.testing.assert_array_equal(view[tile.inside], whole[tile.there])
        rows, columns = in_pixels(tile.there, sampling.bin_px)
        assert rows.stop <= shape[0]
        assert columns.stop <= shape[1]
    assert (seen == 1).all()


def test_maps_of_tiles_are_those_of_the_field(twin_maker):
    frame = twin_maker(
        count=1, shape=(600, 640), starts=((300.0, 320.0), (75.0, 560.0)), diameters_A=(24.0, 20.0)
    ).frames
    field = (frame.astype(np.float32) / frame.mean() - 1).astype(np.float32)
    sampling = sampling_for(PIXEL_A)
    expected = MapMaker(600, 640, sampling).maps(field)[0]
    tiles, window = tiles_of(600, 640, sampling, 100)
    maker, bin_px = MapMaker(*window, sampling), sampling.bin_px
    found = np.full_like(expected, np.nan)
    for tile in tiles:
        y, x = (start * bin_px for start in tile.window)
        found[:, *tile.there] = maker.maps(field[:, y : y + window[0], x : x + window[1]])[0][:, *tile.inside]
    assert len(tiles) == 4
    np.testing.assert_allclose(found[-1], expected[-1], atol=1e-6)
    inside = np.s_[:, 4:-4, 4:-4]  # the border of a field wraps around to its other side, that of a tile to its own
    difference = (found - expected)[:-1][inside]
    assert np.sqrt(np.mean(difference**2)) < 0.05 * expected[:-1].std()


def newcomer(twin_maker, threads, lag_frames):
    """A field of six tiles, one looked at in each frame, in which a particle and bad pixels turn up later.

    All observations and lines, the particles, and the sums of the search.
    """
    shape, quick = (560, 720), FrontEndOptions(window_frames=8, search_frames=6, lag_frames=lag_frames)
    empty = twin_maker(count=4, shape=shape, starts=(), counts=40.0).frames
    place = (420.0, 250.0)
    there = twin_maker(
        count=6, shape=shape, starts=(place,), diameters_A=(24.0,), counts=40.0, step_px=0.2, seed=2
    ).frames
    front = FrontEnd(*shape, PIXEL_A, quick, threads=threads)
    tour = len(Searcher(*shape, sampling_for(PIXEL_A), quick).tiles)
    assert tour == 6
    movie = itertools.chain((empty[i % 4] for i in range(8)), (there[i % 6] for i in range(6 * 2 * tour)))
    given, outputs = np.empty_like(empty[0]), []
    for index, frame in enumerate(movie):
        given[:] = frame  # over the frame before, as in the ring of the daemon
        if index >= 8:
            given[33, 44] = given[500, 700] = 4000
        outputs.append(front.step(index, index * 0.0025, given))
    outputs.append(front.flush())
    told = [line for out in outputs for line in out.events]
    seen = [(o.frame, o.corner_px, o.centre_px, o.box.tobytes()) for out in outputs for o in out.observations]
    found = front.particles()
    assert len(found) == 1
    np.testing.assert_allclose(found[0].centre_px, place, atol=6)
    assert sum("1 more bad pixels" in line for line in told) == 2
    return told, seen, found, front._searcher._sum.tobytes()


@pytest.mark.parametrize("lag_frames", [10, 1])
def test_a_newcomer_in_a_large_field_is_found_in_the_same_frame_by_any_number_of_threads(twin_maker, lag_frames):
    alone = newcomer(twin_maker, 1, lag_frames)
    assert newcomer(twin_maker, 4, lag_frames) == alone


def test_a_look_that_fails_is_not_lost(twin_maker, monkeypatch):
    searcher = Searcher(560, 720, sampling_for(PIXEL_A), FrontEndOptions(), cpu(2))
    frames = [(frame, float(frame.mean())) for frame in twin_maker(count=6, shape=(560, 720), starts=()).frames]
    searcher.first_search(frames)

    def broken(_):
        raise ArithmeticError("deliberate")

    monkeypatch.setattr(searcher._maker, "maps", broken)
    data, mean = frames[0]
    assert searcher.next_search(data, mean, []) is None
    with pytest.raises(ArithmeticError):
        searcher.wait(data)
    searcher.wait()


def test_two_things_at_once_and_one_after_the_other():
    assert cpu(1).begin(lambda: 3)() == 3
    gone, waits = Event(), Event()
    waiting = cpu(2).begin(lambda: waits.wait(60))
    cpu(2).begin(gone.set)()
    waits.set()
    assert waiting()
    assert gone.is_set()
