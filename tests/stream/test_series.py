"""The books of a stream: whatever a sender says, what is delivered is start, frames in order, end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.stream.encoded import EncodedFrame, encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.series import SeriesTracker

PIXELS = np.zeros((6, 8), np.uint16)


def frame(index: int, series: int = 1, pixels: np.ndarray = PIXELS, time_s: float = math.nan) -> EncodedFrame:
    return encode_frame(Frame(series, index, pixels, time_s), "none")


def start(series: int = 1, **fields: object) -> SeriesStart:
    return SeriesStart(series, **fields)


def feed(tracker: SeriesTracker, *events: object) -> list[str]:
    """What was delivered, in words: s1 f1:0 e1:end."""
    words = []
    for event in events:
        for out in tracker.feed(event):
            if isinstance(out, SeriesStart):
                words.append(f"s{out.series_id}")
            elif isinstance(out, SeriesEnd):
                words.append(f"e{out.series_id}:{out.reason}")
            else:
                words.append(f"f{out.series_id}:{out.index}")
    return words


def test_a_whole_series():
    tracker = SeriesTracker()
    assert feed(tracker, start(), frame(0), frame(1), SeriesEnd(1)) == ["s1", "f1:0", "f1:1", "e1:end"]
    assert (tracker.received, tracker.missing, tracker.ignored, dict(tracker.rejected)) == (2, 0, 0, {})
    assert tracker.warnings == []


def test_gaps_are_missing_also_before_the_first_frame():
    tracker = SeriesTracker()
    feed(tracker, start(), frame(2), frame(3), frame(7))
    assert (tracker.received, tracker.missing) == (3, 5)


def test_repeated_and_late_frames_are_rejected():
    tracker = SeriesTracker()
    assert feed(tracker, start(), frame(0), frame(3), frame(3), frame(1)) == ["s1", "f1:0", "f1:3"]
    assert tracker.rejected == {"image number repeated or out of order": 2}
    (words,) = tracker.warnings
    assert "frame 3 of series 1 comes behind frame 3: such frames are rejected" in words


def test_an_implausible_number_does_not_end_the_series():
    tracker = SeriesTracker()
    assert feed(tracker, start(), frame(0), frame(2**60), frame(1)) == ["s1", "f1:0", "f1:1"]
    assert tracker.missing == 0


def test_a_jump_that_goes_on_is_a_loss():
    """A connection that was broken for longer than a million frames: what comes then is the series all the same."""
    tracker = SeriesTracker()
    far = 2_000_000
    assert feed(tracker, start(), frame(0), frame(far), frame(far + 1), frame(far + 2)) == [
        "s1", "f1:0", f"f1:{far + 1}", f"f1:{far + 2}"
    ]  # fmt: skip
    assert tracker.rejected == {"implausible image number": 1}
    assert (tracker.received, tracker.missing) == (4, far - 1)
    feed(tracker, frame(2 * far + 10), frame(3 * far), frame(far + 3))  # single ones do not
    assert (tracker.received, tracker.missing) == (7, far - 1)
    assert tracker.rejected == {"implausible image number": 3}


def test_second_end_is_ignored():
    tracker = SeriesTracker()
    assert feed(tracker, SeriesEnd(9), start(), SeriesEnd(1), SeriesEnd(1)) == ["s1", "e1:end"]
    assert tracker.ignored == 2


def test_new_start_without_an_end():
    tracker = SeriesTracker()
    assert feed(tracker, start(1), frame(0), start(2), frame(0, 2)) == ["s1", "f1:0", "e1:superseded", "s2", "f2:0"]


def test_same_series_started_again_counts_from_zero():
    tracker = SeriesTracker()
    assert feed(tracker, start(1), frame(5), start(1), frame(0)) == ["s1", "f1:5", "e1:superseded", "s1", "f1:0"]


def test_frames_before_any_start():
    tracker = SeriesTracker()
    events = tracker.feed(frame(100))
    made = events[0]
    assert (made.series_id, made.width, made.height, made.dtype) == (1, 8, 6, np.uint16)
    assert (events[1].index, tracker.missing) == (100, 0)
    assert "no start message" in tracker.warnings[0]


def test_frames_of_a_newer_series_whose_start_was_lost():
    tracker = SeriesTracker()
    assert feed(tracker, start(1), frame(0), frame(4, 2)) == ["s1", "f1:0", "e1:superseded", "s2", "f2:4"]


def test_stale_frames_of_older_series_are_rejected():
    tracker = SeriesTracker()
    feed(tracker, start(5), frame(0, 5))
    assert feed(tracker, frame(1, 4), SeriesEnd(4), SeriesEnd(5), frame(1, 5), frame(9, 4)) == ["e5:end"]
    assert tracker.rejected == {"of a series that is over": 3}
    assert tracker.ignored == 1


def test_a_detector_that_counts_from_one_again_without_a_start_is_named_once():
    tracker = SeriesTracker()
    feed(tracker, start(57), frame(0, 57), *(frame(index, 1) for index in range(5)), frame(1, 57))
    assert tracker.rejected == {"of a series that is over": 5}
    (words,) = tracker.warnings
    assert "frames of series 1 come after series 57 has begun, and are rejected" in words
    assert "arm it again" in words
    feed(tracker, SeriesEnd(57), start(58), SeriesEnd(58), frame(7, 1))
    assert len(tracker.warnings) == 1


def test_what_is_kept_for_the_operator_is_a_line_of_bounded_length():
    tracker = SeriesTracker()
    tracker.warn("\x1b[2J\n\0\ud800" + "x" * 10_000)
    assert tracker.warnings == ["?[2J???" + "x" * 293]


def test_a_pause_that_was_taken_for_the_end():
    tracker = SeriesTracker()
    feed(tracker, start(1, frame_time_s=0.5), frame(0))
    assert tracker.time_out() == [SeriesEnd(1, "timeout")]
    assert tracker.time_out() == []
    assert feed(tracker, frame(2), SeriesEnd(1)) == ["s1", "f1:2", "e1:end"]
    assert tracker.missing == 1


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("other", [np.zeros((8, 6), np.uint16), np.zeros((6, 8), np.uint32)])
def test_a_shape_or_type_that_changes(announced, other):
    tracker = SeriesTracker()
    first = start(1, width=8, height=6) if announced else start(1)
    assert feed(tracker, first, frame(0), frame(1, 1, other), frame(2)) == ["s1", "f1:0", "f1:2"]
    assert tracker.rejected == {"shape or type changed within the series": 1}
    assert tracker.missing == 0  # it arrived, and it is in the books as rejected
    assert "rejected" in tracker.warnings[0]


def test_size_of_the_header_gives_way_to_that_of_the_frames():
    tracker = SeriesTracker()
    words = feed(tracker, start(1, width=80, height=60), frame(0), frame(1), frame(2, 1, np.zeros((60, 80), np.uint16)))
    assert words == ["s1", "f1:0", "f1:1"]
    assert "announced with 80 x 60 pixels, but its frames have 8 x 6: they are taken as they are" in tracker.warnings[0]
    resumed = SeriesTracker()
    resumed.resume(start(1, width=80, height=60), 5)  # other frames stand in the recording already
    assert feed(resumed, frame(5)) == []
    assert resumed.rejected == {"shape or type changed within the series": 1}


def test_type_of_the_header_gives_way_to_that_of_the_frames():
    assert feed(SeriesTracker(), start(1, dtype=np.dtype("u4")), frame(0)) == ["s1", "f1:0"]


def test_time_from_the_frame_time_where_the_frames_do_not_say():
    tracker = SeriesTracker()
    tracker.feed(start(1, frame_time_s=0.25))
    assert tracker.feed(frame(2))[0].time_s == 0.5
    assert tracker.feed(frame(3, time_s=7.0))[0].time_s == 7.0


@pytest.mark.parametrize("stride", [2, 3])
def test_theft_by_another_client_is_named_once(stride):
    tracker = SeriesTracker()
    feed(tracker, start(), *(frame(index) for index in range(0, 60 * stride, stride)))
    assert tracker.missing == 59 * (stride - 1)
    assert len(tracker.warnings) == 1
    assert f"one frame in {stride}" in tracker.warnings[0]
    assert "another client" in tracker.warnings[0]


def test_random_losses_are_not_called_theft():
    tracker = SeriesTracker()
    kept = np.flatnonzero(np.random.default_rng(1).random(3000) < 0.5)
    feed(tracker, start(), *(frame(int(index)) for index in kept))
    assert tracker.missing == kept[-1] + 1 - len(kept)
    assert not any("another client" in text for text in tracker.warnings)


EVENTS = st.one_of(
    st.builds(start, st.integers(1, 3)),
    st.builds(frame, st.integers(0, 12), st.integers(1, 3)),
    st.builds(frame, st.integers(0, 12), st.just(1), st.just(np.zeros((2, 2), np.uint16))),
    st.builds(SeriesEnd, st.integers(1, 3)),
    st.none(),
)


@settings(max_examples=300, deadline=None)
@given(events=st.lists(EVENTS, max_size=60))
def test_any_order_becomes_a_well_formed_stream(events):
    """Start, frames with rising numbers, end; and every frame is either delivered or rejected with a reason."""
    tracker = SeriesTracker()
    delivered = []
    for event in events:
        delivered += tracker.time_out() if event is None else tracker.feed(event)
    running, last = None, -1
    for event in delivered:
        if isinstance(event, SeriesStart):
            assert running is None
            running, last = event.series_id, -1
        elif isinstance(event, SeriesEnd):
            assert running == event.series_id
            running = None
        else:
            assert running == event.series_id
            assert event.index > last
            last = event.index
    frames = sum(isinstance(event, EncodedFrame) for event in delivered)
    assert tracker.received == frames + sum(tracker.rejected.values())
    assert len(tracker.warnings) <= 16
