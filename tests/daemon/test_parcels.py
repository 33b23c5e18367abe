"""Messages to a worker: packed and unpacked bit by bit, and through shared memory in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tumble.daemon.parcel_ring import MOST_PARCELS, ParcelRing
from tumble.daemon.parcels import Background, Ending, Meeting, Parcel, arrival_s, pack, sighting, unpack
from tumble.recon.records import NoiseSpectrum, Observation

FLOATS = st.floats(allow_nan=False)
BOXES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(
    box=BOXES, frame=st.integers(0, 2**62), time_s=FLOATS, corner=st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 2),
    centre=st.tuples(FLOATS, FLOATS), sd=FLOATS, accepted=st.booleans(), reason=st.text(max_size=30), arrived_s=FLOATS,
)  # fmt: skip
@settings(deadline=None)
def test_an_observation_survives_bit_by_bit(box, frame, time_s, corner, centre, sd, accepted, reason, arrived_s):
    seen = Observation(7, frame, time_s, box, corner, centre, sd, accepted, reason)
    packed = pack(sighting(seen, arrived_s))
    found = unpack(packed)
    got = found.observation
    assert (got.particle, got.frame, got.time_s, got.corner_px) == (7, frame, time_s, corner)
    assert (got.centre_px, got.centre_sd_px, got.accepted, got.reason) == (centre, sd, accepted, reason)
    assert found.arrived_s == arrived_s == arrival_s(packed)
    if accepted:
        assert got.box.shape == box.shape
        assert got.box.tobytes() == box.tobytes()  # also what is not a number
    else:
        assert got.box.size == 0  # it only would take room


def test_the_other_messages():
    power = np.random.default_rng(1).random((6, 6), np.float32)
    found = unpack(pack(Background(3, NoiseSpectrum(power, 812))))
    assert (found.particle, found.spectrum.boxes) == (3, 812)
    assert np.array_equal(found.spectrum.power, power)
    for message in (Meeting(4, 0.358, 25.25), Ending(9)):
        assert unpack(pack(message)) == message
        assert arrival_s(pack(message)) is None


@pytest.fixture(scope="module")
def shared():
    owner = ParcelRing.create(0.001)
    other = ParcelRing.attach(owner.name)
    yield owner, other
    other.close()
    owner.close()


@given(sizes=st.lists(st.one_of(st.just(-1), st.integers(0, 1500)), max_size=120))
@settings(max_examples=60, deadline=None)
def test_what_is_put_in_is_taken_out_unharmed(shared, sizes):
    writer, reader = shared
    waiting: list[tuple[bytes, Parcel]] = []
    rng = np.random.default_rng(len(sizes))
    for size in sizes:
        if size >= 0:
            made = Parcel(rng.bytes(size % 40), rng.random(size, np.float32))
            ticket = writer.put(made)
            if ticket is None:
                assert waiting  # an empty ring takes everything that fits
            else:
                waiting.append((ticket, made))
        elif waiting:
            ticket, made = waiting.pop(0)
            found = reader.take(ticket)
            writer.taken(1)
            assert found.head == made.head
            assert np.array_equal(found.values, made.values)
    for ticket, made in waiting:
        assert np.array_equal(reader.take(ticket).values, made.values)
    writer.taken(len(waiting))


def test_the_ring_is_bounded_in_number_too():
    ring = ParcelRing.create(1.0)
    small = Parcel(b"x", np.zeros(0, np.float32))
    assert all(ring.put(small) for _ in range(MOST_PARCELS))
    assert ring.put(small) is None
    ring.taken(1)
    assert ring.put(small)
    assert not ring.fits(Parcel(b"", np.zeros(1 << 20, np.float32)))
    ring.close()
