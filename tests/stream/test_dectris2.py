"""Stream V2: messages assembled by hand from the specification, round trips, and payloads that must not hurt."""

from __future__ import annotations

import contextlib
import math
import struct
import tracemalloc

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.stream import dectris2
from tumble.stream.compression import compress
from tumble.stream.encoded import EncodedFrame
from tumble.stream.errors import CompressionError, WireError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart

from . import hostile

DTYPES = ("u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8", "i1", "<i2", "<i4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8")


def text(value: str) -> bytes:
    raw = value.encode()
    assert len(raw) < 24
    return bytes([0x60 + len(raw)]) + raw


def golden_image() -> bytes:
    """A 2 x 3 image of little-endian u16, byte by byte (RFC 8949, RFC 8746)."""
    pixels = struct.pack("<6H", 1, 2, 3, 4, 5, 600)
    array = b"\xd8\x28" + b"\x82" + b"\x82\x02\x03" + b"\xd8\x45" + b"\x4c" + pixels
    return (
        b"\xd9\xd9\xf7\xa7"
        + (text("type") + text("image"))
        + (text("series_id") + b"\x07")
        + (text("series_unique_id") + text("s7"))
        + (text("image_id") + b"\x19\x01\x00")
        + (text("data") + b"\xa1" + text("threshold_1") + array)
        + (text("start_time") + b"\x82\x18\x05\x14")  # 5/20 s
        + (text("real_time") + b"\x82\x01\x18\x64")
    )


def test_image_assembled_by_hand():
    event = dectris2.decode(golden_image())
    assert isinstance(event, EncodedFrame)
    assert (event.series_id, event.index, event.time_s, event.algorithm) == (7, 256, 0.25, "none")
    frame = event.decode()
    np.testing.assert_array_equal(frame.data, [[1, 2, 3], [4, 5, 600]])
    assert frame.data.dtype == np.uint16


def test_without_self_describe_tag():
    assert dectris2.decode(golden_image()[3:]).index == 256


def test_start_assembled_by_hand():
    message = (
        b"\xa5"
        + (text("type") + text("start"))
        + (text("arm_date") + b"\xc0" + b"\x74" + b"2026-01-02T03:04:05Z")
        + (text("series_id") + b"\x03")
        + (text("frame_time") + b"\xfb" + struct.pack(">d", 0.0025))
        + (text("magic_number") + b"\x18\x2a")
    )
    start = dectris2.decode(message)
    assert isinstance(start, SeriesStart)
    assert (start.series_id, start.frame_time_s, start.dtype, start.width) == (3, 0.0025, None, None)


def test_end_assembled_by_hand():
    message = b"\xa2" + text("type") + text("end") + text("series_id") + b"\x03"
    assert dectris2.decode(message) == SeriesEnd(3)


@pytest.mark.parametrize("kind", ["calibration", "metadata", "Image"])
def test_unknown_message_types_are_nothing(kind):
    assert dectris2.decode(cbor2.dumps({"type": kind, "series_id": 1, "magic_number": 0xBEEF})) is None


def test_unknown_fields_are_skipped():
    noise = {"x": cbor2.CBORTag(60000, [1, {"a": b"b"}]), "series_date": cbor2.CBORTag(0, "2026-01-02T03:04:05Z")}
    assert dectris2.decode(hostile.image(**noise)).shape == (6, 8)


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    compression=st.sampled_from(["none", "lz4", "bslz4"]),
    index=st.integers(0, 2**40),
    time_s=st.floats(0, 1e6),
)
def test_frames_survive_the_round_trip(dtype, height, width, compression, index, time_s):
    data = np.random.default_rng(index).integers(0, 100, (height, width)).astype(dtype)
    encoded = dectris2.decode(dectris2.encode(Frame(5, index, data, time_s), compression))
    assert (encoded.series_id, encoded.index, encoded.shape) == (5, index, (height, width))
    assert (encoded.algorithm, encoded.dtype) == (compression, np.dtype(dtype))
    assert encoded.time_s == pytest.approx(time_s, abs=1e-9)
    frame = encoded.decode()
    np.testing.assert_array_equal(frame.data, data)
    assert frame.data.dtype.isnative
    out = np.empty((height, width), np.dtype(dtype).newbyteorder("="))
    assert encoded.decode(out).data is out
    np.testing.assert_array_equal(out, data)
    again = dectris2.decode(dectris2.encode(encoded))  # forwarded without being expanded
    assert bytes(again.blob) == bytes(encoded.blob)


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["<u2", ">u4", "f4"])
def test_column_major_arrays(compression, dtype):
    pixels = np.arange(48, dtype=dtype).reshape(6, 8)
    blob = compress(np.asfortranarray(pixels).T, compression)
    content = blob if compression == "none" else hostile.compressed(blob, compression, pixels.itemsize)
    tag = {"<u2": 69, ">u4": 66, "f4": 85}[dtype]
    encoded = dectris2.decode(hostile.image({"a": hostile.array(content=content, tag=tag, outer=1040)}))
    np.testing.assert_array_equal(encoded.decode().data, pixels)
    out = np.empty((6, 8), np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(encoded.decode(out).data, pixels)
    np.testing.assert_array_equal(dectris2.decode(dectris2.encode(encoded)).decode().data, pixels)
    assert not encoded.storable


def test_every_type_tag_of_rfc_8746_is_known():
    known = {64: "u1", 68: "u1", 72: "i1", 65: ">u2", 71: "<u8", 75: ">i8", 84: "<f2"}
    for tag, dtype in known.items():
        pixels = np.arange(4).astype(dtype)
        data = {"a": hostile.array((2, 2), pixels.tobytes(), tag)}
        np.testing.assert_array_equal(dectris2.decode(hostile.image(data)).decode().data, [[0, 1], [2, 3]])


def test_channels():
    data = {"threshold_1": hostile.array(), "threshold_2": hostile.array((1, 1), b"\x09\x00")}
    payload = hostile.image(data)
    assert dectris2.decode(payload).shape == (6, 8)
    assert dectris2.decode(payload, "threshold_2").decode().data == 9
    with pytest.raises(WireError, match="without channel 'difference'"):
        dectris2.decode(payload, "difference")


def test_names_of_channels_make_no_long_lines():
    message = cbor2.dumps(
        {"type": "image", "series_id": 1, "image_id": 0, "data": {"\n" * 20_000 + str(i): 0 for i in range(9)}}
    )
    with pytest.raises(WireError, match="to one of these") as caught:
        dectris2.decode(message, "threshold_1")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_start_survives_the_round_trip():
    mask = np.zeros((6, 8), np.uint32)
    mask[2, 3] = 8
    start = SeriesStart(
        series_id=4,
        unique_id="abc",
        width=8,
        height=6,
        dtype=np.dtype(np.uint16),
        number_of_images=1000,
        frame_time_s=0.0025,
        pixel_size_A=0.358,
        dose_e_per_A2=80.0,
        voltage_kV=300.0,
        detector="simulated",
        pixel_mask=mask,
        flatfield=np.linspace(0.9, 1.1, 48, dtype=np.float32).reshape(6, 8),
        user_data={"sample": "Pt", "tumble": {"operator": "someone"}},
    )
    back = dectris2.decode(dectris2.encode(start))
    for name in ("series_id", "unique_id", "width", "height", "dtype", "number_of_images", "frame_time_s", "detector"):
        assert getattr(back, name) == getattr(start, name)
    assert (back.pixel_size_A, back.dose_e_per_A2, back.voltage_kV) == (0.358, 80.0, 300.0)
    np.testing.assert_array_equal(back.pixel_mask, mask)
    np.testing.assert_array_equal(back.flatfield, start.flatfield)
    assert back.user_data["sample"] == "Pt"
    assert back.user_data["tumble"]["operator"] == "someone"
    assert type(back.user_data) is type(back.user_data["tumble"]) is dict  # it goes to other processes


def test_texts_of_a_start_can_go_into_a_file_and_onto_a_terminal():
    message = cbor2.dumps(
        {"type": "start", "series_id": 1, "series_unique_id": "a\0b", "detector_description": "\x1b[2J\nx" + "y" * 999}
    )
    start = dectris2.decode(message)
    assert (start.unique_id, start.detector) == ("a?b", "?[2J?x" + "y" * 194)


@pytest.mark.parametrize("name", ["pixel_mask", "flatfield"])
def test_a_table_larger_than_any_detector_is_refused_before_it_is_made(name):
    elements = cbor2.CBORTag(56500, ["lz4", 1, b"\0" * (1 << 22)])  # could hold a gigabyte
    array = cbor2.CBORTag(40, [[1 << 14, 1 << 14], cbor2.CBORTag(64, elements)])
    message = cbor2.dumps({"type": "start", "series_id": 1, name: {"a": array}})
    tracemalloc.start()
    with pytest.raises(CompressionError, match="16384 x 16384 pixels is larger than any detector"):
        dectris2.decode(message)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_tables_of_odd_values_are_taken_as_they_are():
    array = cbor2.CBORTag(40, [[1, 3], cbor2.CBORTag(86, np.array([math.nan, 1e300, -1.0]).tobytes())])
    start = dectris2.decode(
        cbor2.dumps({"type": "start", "series_id": 1, "pixel_mask": {"a": array}, "flatfield": {"a": array}})
    )
    assert start.pixel_mask.dtype == np.uint32
    np.testing.assert_array_equal(start.flatfield, np.array([[math.nan, math.inf, -1.0]], np.float32))


def test_what_a_start_does_not_say_is_none():
    back = dectris2.decode(dectris2.encode(SeriesStart(1)))
    for name in ("width", "height", "dtype", "number_of_images", "frame_time_s", "pixel_size_A", "dose_e_per_A2"):
        assert getattr(back, name) is None


@pytest.mark.parametrize(
    ("energy_eV", "voltage_kV"), [(300_000, 300.0), (12_400.0, None), ("much", None), (True, None)]
)
def test_voltage_comes_from_the_energy_of_an_electron_detector(energy_eV, voltage_kV):
    message = {"type": "start", "series_id": 1, "incident_energy": energy_eV}
    assert dectris2.decode(cbor2.dumps(message)).voltage_kV == voltage_kV


@pytest.mark.parametrize("value", [None, "x", True, -1.0, 0, math.nan, math.inf, [1], {"a": 1}])
def test_specimen_values_that_are_none(value):
    message = {"type": "start", "series_id": 1, "user_data": {"tumble": {"pixel_size_angstrom": value}}}
    assert dectris2.decode(cbor2.dumps(message)).pixel_size_A is None


@pytest.mark.parametrize("time", [None, [1, 0], [1], "1", [1.5, 2], [2**70, 1]])
def test_times_that_are_none(time):
    assert math.isnan(dectris2.decode(hostile.image(start_time=time)).time_s)


@pytest.mark.parametrize("payload", hostile.V2.values(), ids=hostile.V2)
def test_hostile_messages_are_refused(payload):
    tracemalloc.start()
    try:
        with pytest.raises(WireError) as caught:
            dectris2.decode(payload)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("payload", hostile.DAMAGED.values(), ids=hostile.DAMAGED)
def test_damaged_frames_are_refused_when_expanded(payload):
    encoded = dectris2.decode(payload)
    with pytest.raises(CompressionError):
        encoded.decode()


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=200))
def test_random_bytes(payload):
    with contextlib.suppress(WireError):
        dectris2.decode(payload)


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes(flips):
    payload = bytearray(hostile.image({"a": hostile.array(content=hostile.compressed(hostile.BSLZ4))}))
    for position, value in flips:
        payload[position % len(payload)] = value
    try:
        event = dectris2.decode(payload)
        if isinstance(event, EncodedFrame) and event.raw_bytes < 1 << 20:
            event.decode()
    except WireError:
        pass


def test_a_frame_that_cannot_be_carried():
    with pytest.raises(WireError, match="no array of type bool"):
        dectris2.encode(Frame(1, 0, np.zeros((2, 2), bool), 0.0))


@pytest.mark.parametrize("damaged", [cbor2.CBORTag(0, "yesterday"), cbor2.CBORTag(37, b"123"), cbor2.CBORTag(2, b"")])
def test_damage_in_a_field_that_nobody_reads_costs_nothing(damaged):
    message = cbor2.dumps({"type": "start", "series_id": 1, "arm_date": damaged, "user_data": {"when": damaged}})
    start = dectris2.decode(message)
    assert isinstance(start, SeriesStart)
    assert start.series_id == 1
    assert isinstance(start.user_data["when"], str)


def test_a_frame_shares_the_memory_of_its_message():
    message = memoryview(bytearray(hostile.image()))
    frame = dectris2.decode(message)
    assert isinstance(frame.blob, memoryview)
    assert np.shares_memory(np.frombuffer(frame.blob, np.uint8), np.frombuffer(message, np.uint8))


def test_senders_that_do_not_know_the_length_of_their_maps_beforehand():
    """Indefinite maps, lists and strings, as the tinycbor of some senders writes them."""
    whole = hostile.image()
    assert whole[0] == 0xA4
    frame = dectris2.decode(b"\xbf" + whole[1:] + b"\xff")
    assert isinstance(frame, EncodedFrame)
    np.testing.assert_array_equal(frame.decode().data, hostile.PIXELS)
    assert dectris2.decode(b"\xbf\x64type\x7f\x61e\x62nd\xff\x69series_id\x05\xff") == SeriesEnd(5)
