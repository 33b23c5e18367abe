"""What happens to a particle during a movie: newcomers, leaving, crossing, losing, a dark beam, hot pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tumble.recon.frontend.frontend import FrontEnd, FrontEndOutput
from tumble.recon.frontend.options import FrontEndOptions

PIXEL_A = 0.358


def feed(frames, options=None):
    """Feed all frames; return the front end and everything that came out, merged."""
    front = FrontEnd(*frames[0].shape, PIXEL_A, options)
    outputs = [front.step(index, index * 0.0025, frame) for index, frame in enumerate(frames)]
    outputs.append(front.flush())
    return front, FrontEndOutput(
        tuple(o for out in outputs for o in out.observations),
        tuple(i for out in outputs for i in out.analysed),
        tuple(r for out in outputs for r in out.rejected),
        tuple(e for out in outputs for e in out.events),
    )


def errors_px(merged, particle, truth):
    """Distances of the smoothed track from the truth (frames, 2), px, and the frames they belong to."""
    mine = [o for o in merged.observations if o.particle == particle]
    centres = np.array([o.centre_px for o in mine])
    frames = [o.frame for o in mine]
    return np.hypot(*(centres - truth[frames]).T), np.array(frames), mine


def test_a_blackout_of_thirty_frames_is_survived(twin_maker):
    twin = twin_maker(count=160, starts=((100.0, 100.0),), diameters_A=(24.0,))
    frames = twin.frames.copy()
    frames[80:110] = 0
    front, merged = feed(frames)
    assert merged.rejected == tuple((index, "blank") for index in range(80, 110))
    assert [p.state for p in front.particles()] == ["tracked"]
    error, seen, _ = errors_px(merged, 1, twin.centres[0])
    assert list(seen) == [*range(80), *range(110, 160)]
    assert np.sqrt(np.mean(error[seen > 115] ** 2)) < 2.5


def test_a_particle_that_leaves_is_said_to_have_left(twin_maker):
    twin = twin_maker(count=170, starts=((90.0, 100.0),), diameters_A=(22.0,), velocity=((-0.7, 0.0),), step_px=0.3)
    front, merged = feed(twin.frames)
    assert [p.state for p in front.particles()] == ["left"]
    assert any("left the field" in event for event in merged.events)
    error, seen, mine = errors_px(merged, 1, twin.centres[0])
    inside = twin.centres[0][seen, 0] > 22.0 / 2 / PIXEL_A
    assert error[inside].max() < 8
    assert {o.reason for o in mine[-5:]} == {"edge"}
    assert all(o.box.shape == mine[0].box.shape for o in mine)
    assert merged.analysed == tuple(range(170))


def test_a_particle_that_vanishes_is_lost_and_another_gets_a_new_number(twin_maker):
    first = twin_maker(count=100, shape=(200, 200), starts=((70.0, 70.0),), diameters_A=(22.0,))
    second = twin_maker(count=250, shape=(200, 200), starts=((135.0, 130.0),), diameters_A=(22.0,), seed=4, step_px=0.3)
    quick = FrontEndOptions(search_every=4)
    front, merged = feed(np.concatenate([first.frames, second.frames]), quick)
    assert [p.state for p in front.particles()] == ["lost", "tracked"]
    error, seen, _ = errors_px(merged, 2, np.concatenate([first.centres[0], second.centres[0]]))
    assert np.sqrt(np.mean(error[5:] ** 2)) < 2.0
    assert seen[-1] == 349
    gone = [o for o in merged.observations if o.particle == 1 and o.frame > 140]
    assert gone
    assert not any(o.accepted for o in gone)
    assert {o.reason for o in gone} == {"lost"}


def test_crossing_particles_are_flagged_and_both_survive(twin_maker):
    twin = twin_maker(
        count=200,
        shape=(200, 260),
        starts=((60.0, 95.0), (200.0, 125.0)),
        diameters_A=(20.0, 20.0),
        velocity=((0.7, 0.0), (-0.7, 0.0)),
        step_px=0.2,
    )
    front, merged = feed(twin.frames)
    assert [p.state for p in front.particles()] == ["tracked", "tracked"]
    apart = np.hypot(*(twin.centres[0] - twin.centres[1]).T) * PIXEL_A
    for particle in (1, 2):
        reasons = {o.frame: o.reason for o in merged.observations if o.particle == particle}
        assert all(reasons[frame] == "crossing" for frame in np.flatnonzero(apart < 15))
        assert all(reasons[frame] == "" for frame in np.flatnonzero(apart > 25))
    ends = np.array([p.centre_px for p in front.particles()])
    truth = twin.centres[:, -1]
    straight = np.abs(ends - truth).max()
    swapped = np.abs(ends - truth[::-1]).max()
    assert min(straight, swapped) < 5


def test_hot_and_masked_pixels_are_no_particles(twin_maker):
    twin = twin_maker(count=60, starts=((140.0, 120.0),), diameters_A=(22.0,))
    frames = twin.frames.copy()
    frames[:, 40, 50] = 5000
    frames[:, 60, 90] = 0
    frames[:, 20:24, 100:104] = 65535
    front, merged = feed(frames)
    assert merged.rejected == ()
    assert len(front.particles()) == 1
    error, _, mine = errors_px(merged, 1, twin.centres[0])
    assert np.sqrt(np.mean(error**2)) < 2
    assert Counter(o.reason for o in mine) == {"": 60}


def test_uneven_illumination_is_no_particle(twin_maker):
    empty = twin_maker(count=60, shape=(180, 180), starts=(), counts=20.0)
    y, x = np.mgrid[:180, :180]
    shade = 0.6 + 0.4 * np.exp(-(((x - 60) / 80) ** 2) - ((y - 90) / 60) ** 2)
    rng = np.random.default_rng(0)
    front, _ = feed([rng.binomial(frame, shade).astype(np.uint16) for frame in empty.frames])
    assert front.particles() == ()


def test_a_particle_cut_by_the_border_is_not_taken(twin_maker):
    twin = twin_maker(count=60, starts=((10.0, 100.0), (150.0, 100.0)), diameters_A=(22.0, 22.0), step_px=0.1)
    front, merged = feed(twin.frames)
    assert len(front.particles()) == 1
    assert errors_px(merged, 1, twin.centres[1])[0].max() < 8
