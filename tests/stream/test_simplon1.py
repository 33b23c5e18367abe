"""SIMPLON v1: the habits of real senders, round trips, and payloads that must not hurt."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.stream import simplon1
from tumble.stream.compression import compress
from tumble.stream.encoded import LZ4_BLOCK, EncodedFrame, encode_frame
from tumble.stream.errors import WireError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart

from . import hostile

START = SeriesStart(3, width=8, height=6, dtype=np.dtype("u2"), number_of_images=10, frame_time_s=0.001)


def dumps(**fields: object) -> bytes:
    return json.dumps(fields).encode()


HEADER = dumps(htype="dheader-1.0", header_detail="basic", series=3)


@pytest.mark.parametrize("separate", [True, False])
def test_header_in_one_message_or_in_two(separate):
    decoder = simplon1.Decoder()
    events = [event for parts in simplon1.encode_start(START, separate) for event in decoder.decode(parts)]
    (start,) = events
    assert (start.series_id, start.width, start.height, start.dtype) == (3, 8, 6, np.uint16)
    assert (start.number_of_images, start.frame_time_s) == (10, 0.001)


def test_header_without_configuration_is_a_start_when_something_else_follows():
    decoder = simplon1.Decoder()
    assert decoder.decode([HEADER]) == []
    start, frame = decoder.decode(simplon1.encode_frame(encode_frame(Frame(3, 0, hostile.PIXELS, 0.0), "bslz4")))
    assert isinstance(start, SeriesStart)
    assert isinstance(frame, EncodedFrame)
    (start,) = decoder.decode([dumps(htype="dheader-1.0", header_detail="none", series=4)])
    assert start.series_id == 4


def test_several_messages_in_one():
    """A simulator that fell behind sends all it has as the parts of one message."""
    frames = [encode_frame(Frame(3, index, hostile.PIXELS, 0.0), "bslz4") for index in range(2)]
    header, *images = (*simplon1.encode_start(START, separate=False), *map(simplon1.encode_frame, frames))
    parts = [*header, *images[0], *images[1], *simplon1.encode_end(SeriesEnd(3))]
    start, first, second, end = simplon1.Decoder().decode(parts)
    assert (start.width, first.index, second.index, end.reason) == (8, 0, 1, "end")


def test_configuration_without_header_says_nothing():
    assert simplon1.Decoder().decode([dumps(nimages=4)]) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"nimages": 10, "ntrigger": 3, "trigger_mode": "exts"}, 30),
        ({"nimages": 10, "ntrigger": 3, "trigger_mode": "ints"}, 30),
        ({"nimages": 10, "ntrigger": 3, "trigger_mode": "exte"}, 3),
        ({"nimages": 10, "ntrigger": 3, "trigger_mode": "inte"}, 3),
        ({"nimages": 10}, 10),
        ({}, None),
    ],
)
def test_expected_frames_depend_on_the_trigger_mode(config, expected):
    (start,) = simplon1.Decoder().decode([HEADER, dumps(**config)])
    assert start.number_of_images == expected


def test_a_region_of_interest_hides_the_size():
    config = dumps(x_pixels_in_detector=512, y_pixels_in_detector=512, roi_mode="lines")
    (start,) = simplon1.Decoder().decode([HEADER, config])
    assert start.width is None


def test_tables_of_a_detailed_header():
    flat = np.full((6, 8), 1.5, np.float32)
    mask = np.eye(6, 8, dtype=np.uint32)
    parts = [
        dumps(htype="dheader-1.0", header_detail="all", series=3),
        dumps(bit_depth_image=32),
        dumps(htype="dflatfield-1.0", shape=[8, 6], type="float32"),
        flat.tobytes(),
        dumps(htype="dpixelmask-1.0", shape=[8, 6], type="uint32"),
        mask.tobytes(),
        dumps(htype="dcountrate_table-1.0", shape=[2, 2], type="float32"),
        bytes(16),
    ]
    (start,) = simplon1.Decoder().decode(parts)
    np.testing.assert_array_equal(start.pixel_mask, mask)
    np.testing.assert_array_equal(start.flatfield, flat)
    assert start.dtype == np.uint32


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "<u2", ">u2", "<u4", ">u4", "<i4", "<f4"]),
    compression=st.sampled_from(["none", "bslz4"]),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    index=st.integers(0, 2**40),
)
def test_frames_survive_the_round_trip(dtype, compression, height, width, index):
    data = np.random.default_rng(index).integers(0, 100, (height, width)).astype(dtype)
    parts = simplon1.encode_frame(encode_frame(Frame(3, index, data, 1.25), compression))
    (encoded,) = simplon1.Decoder().decode(parts)
    assert (encoded.series_id, encoded.index, encoded.time_s) == (3, index, pytest.approx(1.25))
    np.testing.assert_array_equal(encoded.decode().data, data)


def image_parts(blob: bytes, encoding: str, *more: bytes) -> list[bytes]:
    return [
        dumps(htype="dimage-1.0", series=3, frame=0, hash=""),
        dumps(htype="dimage_d-1.0", shape=[8, 6], type="uint16", encoding=encoding, size=len(blob)),
        blob,
        *more,
    ]


def test_bitshuffle_with_a_zeroed_header_becomes_storable():
    blob = bytes(12) + hostile.BSLZ4[12:]
    (encoded,) = simplon1.Decoder().decode(image_parts(blob, "bs16-lz4<"))
    assert bytes(encoded.blob) == hostile.BSLZ4
    assert encoded.storable
    np.testing.assert_array_equal(encoded.decode().data, hostile.PIXELS)


def test_lz4_is_a_bare_block():
    block = compress(hostile.PIXELS, "lz4")[16:]
    if len(block) == hostile.PIXELS.nbytes:  # it did not shrink: write the block of literals by hand
        block = bytes([0xF0, hostile.PIXELS.nbytes - 15]) + hostile.PIXELS.tobytes()
    (encoded,) = simplon1.Decoder().decode(image_parts(block, "lz4<"))
    assert encoded.algorithm == LZ4_BLOCK
    assert not encoded.storable
    np.testing.assert_array_equal(encoded.decode().data, hostile.PIXELS)
    out = np.empty((6, 8), np.uint16)
    np.testing.assert_array_equal(encoded.decode(out).data, hostile.PIXELS)


def test_times_are_nanoseconds_and_may_be_missing():
    blob = hostile.PIXELS.tobytes()
    config = dumps(htype="dconfig-1.0", start_time=2_500_000, stop_time=5_000_000, real_time=2_500_000)
    (timed,) = simplon1.Decoder().decode(image_parts(blob, "<", config))
    assert timed.time_s == pytest.approx(0.0025)
    (untimed,) = simplon1.Decoder().decode(image_parts(blob, "<"))
    assert math.isnan(untimed.time_s)


def test_end():
    assert simplon1.Decoder().decode(simplon1.encode_end(SeriesEnd(3))) == [SeriesEnd(3)]


@pytest.mark.parametrize("parts", hostile.V1.values(), ids=hostile.V1)
def test_hostile_messages_are_refused(parts):
    with pytest.raises(WireError) as caught:
        simplon1.Decoder().decode(parts)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_random_bytes(parts):
    with contextlib.suppress(WireError):
        simplon1.Decoder().decode([b"{" + parts[0], *parts[1:]])


def test_texts_of_a_start_can_go_into_a_file_and_onto_a_terminal():
    parts = [b'{"htype": "dheader-1.0", "series": 1}', b'{"description": "\\ud800\\u0000\\u001b[2J"}']
    (start,) = simplon1.Decoder().decode(parts)
    assert start.detector == "???[2J"
