"""What is read by the form of the message before is what is read in full; another form is not taken for it."""

from __future__ import annotations

import random

import cbor2
import numpy as np
import pytest

from tumble.stream import dectris2
from tumble.stream.encoded import EncodedFrame
from tumble.stream.errors import WireError
from tumble.stream.form import form_of
from tumble.stream.frame import Frame, SeriesStart

from . import hostile
from .mutate import Mutator


def facts(frame: EncodedFrame) -> tuple:
    """Everything about a frame, comparable also where its time is unknown."""
    about = (frame.series_id, frame.index, repr(frame.time_s), frame.shape, frame.dtype, frame.algorithm)
    return (*about, bytes(frame.blob), frame.column_major, frame.pose)


def form(message: bytes):
    return form_of(message, dectris2.decode(message))


def modern(**fields) -> bytes:
    """As a detector sends it: with dates, times and an id, before and behind the image."""
    told = {"series_unique_id": "01F", "real_time": [1, 400], "start_time": [7, 400], "stop_time": [8, 400]}
    return dectris2.SELF_DESCRIBE + hostile.image(series_date=cbor2.CBORTag(0, "2026-11-21"), **{**told, **fields})


def test_numbers_of_every_length_and_payloads_of_every_length():
    for known in (form(modern()), form(hostile.image())):
        for index in (0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1):
            for blob in (b"", b"x" * 23, b"x" * 24, b"x" * 255, b"\xff" * 256, b"x" * 70_000):
                data = {"threshold_1": hostile.array(content=blob)}
                message = modern(image_id=index, data=data, start_time=[index, 400])
                other = hostile.image(image_id=index, data=data)
                for text in (message, other):
                    found = known.read(text)
                    assert found is None or facts(found) == facts(dectris2.decode(text))
                assert sum(known.read(text) is not None for text in (message, other)) == 1


def test_what_was_published_here_is_read_by_its_form():
    pixels = np.random.default_rng(0).poisson(2.0, (8, 10)).astype(np.uint16)
    decoder = dectris2.Decoder()
    for index in range(300):
        message = dectris2.encode(Frame(5, index, pixels + index, index * 0.0025))
        quick = decoder.known(message)
        assert (quick is None) == (index == 0)
        assert facts(quick or dectris2.decode(message)) == facts(decoder.decode(message))
        assert quick is None or quick.blob.obj is message  # nothing was copied


@pytest.mark.parametrize(
    "changes",
    [
        {"series_id": 2},
        {"type": "picture"},
        {"data": {"threshold_1": hostile.array((8, 6))}},
        {"data": {"threshold_1": hostile.array(tag=77)}},
        {"data": {"threshold_1": hostile.array(outer=1040)}},
        {"data": {"threshold_2": hostile.array()}},
        {"data": {"threshold_1": hostile.array(content=hostile.compressed(hostile.BSLZ4))}},
        {"image_id": -1},
        {"image_id": 2**63},
        {"image_id": 1.0},
        {"start_time": [1, 0]},
        {"start_time": [2**63, 5]},
        {"start_time": [-1, 5]},
        {"start_time": None},
        {"more": 1},
    ],
)
def test_another_form(changes):
    known = form(modern())
    assert known.read(modern()) is not None
    assert known.read(modern(**changes)) is None
    assert known.read(modern() + b"\0") is None
    assert known.read(modern()[:-1]) is None


@pytest.mark.parametrize(
    "message",
    [
        dectris2.encode(Frame(1, 0, hostile.PIXELS, 0.0, pose=(1.0, 0.0, 0.0, 0.0))),
        hostile.image(user_data={"a": 1}),
        hostile.image(other="image_id"),
        hostile.image(other=["start_time", [1, 2]], start_time=[1, 2]),
        hostile.image({"a": hostile.array(), "b": hostile.array()}),
        hostile.image(start_time=[-1, 5]),
    ],
)
def test_messages_of_which_others_may_differ_in_more(message):
    assert form(message) is None


def test_a_decoder_does_not_try_for_ever(monkeypatch):
    tries = []
    monkeypatch.setattr(dectris2, "form_of", lambda *_: tries.append(1))
    decoder = dectris2.Decoder()
    for _ in range(2):
        for index in range(50):
            decoder.decode(dectris2.encode(Frame(1, index, hostile.PIXELS, 0.0)))
        decoder.decode(dectris2.encode(SeriesStart(1)))
    assert len(tries) == 16


@pytest.mark.parametrize("seed", [3, 4])
def test_mutated_messages(seed):
    """Whatever comes after whatever: the quick way never says anything that the long one does not."""
    mutator, rng = Mutator(seed), random.Random(seed)
    images = [cbor2.dumps(value) for value in mutator.modern if value["type"] == "image"]
    quickly = 0
    for _ in range(3000):
        example = rng.choice(images)
        known = form(example)
        message = mutator.bytes(example) if rng.random() < 0.5 else cbor2.dumps(mutator.structure(cbor2.loads(example)))
        quick = known.read(message)
        try:
            slow = dectris2.decode(message)
        except WireError:
            assert quick is None
            continue
        if quick is not None:
            quickly += 1
            assert isinstance(slow, EncodedFrame)
            assert facts(quick) == facts(slow)
    assert quickly > 500
