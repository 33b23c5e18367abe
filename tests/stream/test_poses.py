"""Poses on the wire and in recordings: they come out as they went in, and what is no pose is refused in words."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumble.stream import dectris2
from tumble.stream.errors import WireError
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.keeper import Keeper
from tumble.stream.poses import goniometer, pose_from, quaternion, tilt_deg, tilted
from tumble.stream.publisher import Publisher
from tumble.stream.readers import open_recording
from tumble.stream.recorder import Recorder
from tumble.stream.source import PullSource

angles = st.floats(-180, 180, exclude_min=True)
unit = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1).map(quaternion)


@given(angles)
def test_an_angle_survives_as_a_pose(angle):
    assert tilt_deg(tilted(angle)) == pytest.approx(angle, abs=1e-9)


@given(unit, st.sampled_from(["<f4", "<f8", "<u2", "<f2"]))
def test_a_pose_travels_with_its_image(pose, dtype):
    frame = Frame(3, 7, np.arange(6).reshape(2, 3).astype(dtype), 0.5, pose)
    event = dectris2.decode(dectris2.encode(frame))
    assert event.pose == pytest.approx(pose, abs=1e-12)
    decoded = event.decode()
    assert decoded.pose == event.pose
    np.testing.assert_array_equal(decoded.data, frame.data)


def test_an_angle_in_the_user_data_of_an_image():
    message = dict(cbor2.loads(dectris2.encode(Frame(3, 7, np.ones((2, 3), np.uint16), 0.5))))
    for said, angle in (({"tilt_deg": -12.5}, -12.5), ({"tilt_deg": 30}, 30.0), ({"dose": 3}, None)):
        event = dectris2.decode(cbor2.dumps(message | {"user_data": {"tumble": said}}))
        assert (event.pose is None) == (angle is None)
        if angle is not None:
            assert tilt_deg(event.pose) == pytest.approx(angle)
    assert dectris2.decode(cbor2.dumps(message | {"user_data": "anything"})).pose is None


@pytest.mark.parametrize(
    "said",
    [
        {"tilt_deg": "30"}, {"tilt_deg": math.nan}, {"tilt_deg": True}, {"tilt_deg": 1e9}, {"quaternion": [1, 0, 0]},
        {"quaternion": [0, 0, 0, 0]}, {"quaternion": 5}, {"quaternion": [1, 0, 0, "x"]}, {"quaternion": [1e300] * 4},
    ],
)  # fmt: skip
def test_what_is_no_pose_is_refused(said):
    with pytest.raises(WireError, match="of an image"):
        pose_from({"tumble": said})


def test_the_goniometer_of_a_start():
    start = SeriesStart(1, width=4, height=4, goniometer_deg=(-60.0, 2.5))
    assert dectris2.decode(dectris2.encode(start)).goniometer_deg == (-60.0, 2.5)
    assert goniometer({"omega": {"start": 5, "increment": 0.0}, "Alpha": {"start": -60, "increment": 3}}) == (-60, 3)
    assert goniometer({"omega": {"increment": 1.0}}) == (0.0, 1.0)
    assert goniometer({"omega": {"start": 5.0, "increment": 0}}) is None
    assert goniometer("alpha") is None


def events(count: int = 5):
    rng = np.random.default_rng(0)
    yield SeriesStart(1, width=6, height=4, dtype=np.dtype(np.float32), number_of_images=count, pixel_size_A=0.5)
    for index in range(count):
        pose = None if index == 2 else tilted(10.0 * index)
        yield Frame(1, index, rng.normal(size=(4, 6)).astype(np.float32), float(index), pose)
    yield SeriesEnd(1)


def test_over_a_socket_and_into_a_recording(tmp_path: Path):
    sent = [event for event in events() if isinstance(event, Frame)]
    path = tmp_path / "frames.h5"
    with Publisher() as publisher, PullSource(publisher.source_uri, encoded=True) as source:
        publisher.publish(events())
        recorder, position = None, 0
        for event in source:
            if isinstance(event, SeriesStart):
                recorder = Recorder(path, event)
            elif not isinstance(event, SeriesEnd):
                recorder.write(event)
                back = recorder.read(position, event.index, event.time_s, event.pose)
                assert back.pose == event.pose
                position += 1
            else:
                break
        recorder.close()
    with open_recording(path) as recording:
        for position, frame in enumerate(sent):
            for event in (recording.frame(position), recording.encoded(position).decode()):
                assert event.pose == frame.pose
                np.testing.assert_array_equal(event.data, frame.data)


def test_poses_of_frames_that_wait_on_disk_and_of_a_killed_recording(tmp_path: Path):
    path = tmp_path / "frames.h5"
    keeper = Keeper(path, room_frames=1)
    start, *frames, _ = events()
    keeper.begin(start)
    for frame in frames:
        assert keeper.take(dectris2.decode(dectris2.encode(frame)), 0.0)
    assert [keeper.pop()[0].pose for _ in frames] == [frame.pose for frame in frames]
    keeper.close()
    keeper = Keeper(path)
    assert keeper.resume(start) == (5, 5)
    assert keeper.take(dectris2.decode(dectris2.encode(dataclasses.replace(frames[1], index=5))), 0.0)
    poses = [frame.pose for frame in (*frames, frames[1])]
    assert [keeper.pop()[0].pose for _ in poses] == poses
    keeper.close()
    with open_recording(path) as recording:
        assert [recording.pose(position) for position in range(len(recording))] == poses
