"""Lines for logs: each thing is said once, and the books at the end."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from tumble.dashboard.plain import PlainLines, books


def follow(fakes: ModuleType, particles: int, until: float, every_s: float = 10.0) -> list[str]:
    plain = PlainLines(every_s)
    lines: list[str] = []
    for step in range(int((until + 1) * 4)):
        lines += plain.lines(fakes.snapshot(step / 4 - 1, particles))
    return lines


def test_a_whole_movie(fakes: ModuleType) -> None:
    lines = follow(fakes, 2, 44.0)
    text = "\n".join(lines)
    assert lines[0] == "00:00:00 waiting for a stream on zmq+tcp://127.0.0.1:31001"
    assert text.count("P001 found at (97, 147) px, diameter 25.1 A") == 1
    assert text.count("P001 first map:") == 1
    assert "P002 INDEXING -> MAPPING" in text
    assert text.count("frames, ") >= 3  # progress
    assert "frames: received 16000 = used 15762 + rejected 238 (crossing 177, blurred 61) + dropped 0" in lines[-1]
    assert lines[-1].endswith("+ in flight 0: adds up; missing 0, recorded 16000")
    assert len(lines) < 30


def test_an_empty_movie_says_so(fakes: ModuleType) -> None:
    lines = follow(fakes, 0, 44.0)
    assert lines[-2].endswith("no particle in this movie")


def test_progress_comes_as_often_as_wanted(fakes: ModuleType) -> None:
    few = [line for line in follow(fakes, 1, 38.0, 20.0) if "/s, lag" in line]
    many = [line for line in follow(fakes, 1, 38.0, 5.0) if "/s, lag" in line]
    assert len(few) == 2
    assert len(many) == 8


def test_losses_are_said(fakes: ModuleType) -> None:
    snapshot = fakes.snapshot(10.0, 1)
    lossy = replace(snapshot, stream=replace(snapshot.stream, missing=5, dropped={"queue full": 7}))
    assert any("LOST 12" in line for line in PlainLines().lines(lossy))
    assert "OFF BY -7" in books(lossy.stream)
    assert "dropped 7 (queue full 7)" in books(lossy.stream)


def test_hostile_words(fakes: ModuleType) -> None:
    for line in PlainLines().lines(fakes.huge()):
        assert line.isprintable()


def test_what_operators_ask_for_is_said_once(fakes: ModuleType) -> None:
    plain = PlainLines()
    snapshot = fakes.snapshot(3.0, 1)
    plain.lines(snapshot)
    paused = replace(snapshot, paused=True, mark="beam moved (after frame 1199)")
    words = "\n".join(plain.lines(paused))
    assert "PAUSED: frames are received and recorded, not analysed" in words
    assert "mark: beam moved (after frame 1199)" in words
    assert not plain.lines(paused)
    assert any(line.endswith("goes on") for line in plain.lines(replace(paused, paused=False)))
