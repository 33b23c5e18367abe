"""The reader against the reference library for everything that can be said, and against everything that cannot."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumble.stream.cbor import Tag, loads
from tumble.stream.errors import WireError

TAGS = st.integers(1000, 2**63)  # the reference interprets lower ones
VALUES = st.recursive(
    st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=40)
    | st.binary(max_size=60),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.text(max_size=8) | st.integers(-9, 2**40), inner, max_size=6),
        st.builds(cbor2.CBORTag, TAGS, inner),
    ),
    max_leaves=25,
)


def plain(value: Any) -> Any:
    """Comparable: views as bytes, tags of both kinds as triples, NaN as a word."""
    if isinstance(value, memoryview):
        return bytes(value)
    if value is cbor2.undefined:
        return None
    if isinstance(value, Tag | cbor2.CBORTag):
        return ("tag", value.tag, plain(value.value))
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


@settings(max_examples=300)
@given(VALUES, st.booleans())
def test_everything_the_reference_writes_is_read(value, canonical):
    assert plain(loads(cbor2.dumps(value, canonical=canonical))) == plain(value)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload):
    try:
        mine = loads(payload)
    except WireError:
        return
    try:
        theirs = cbor2.loads(payload)
    except Exception:  # noqa: BLE001  # it interprets tags and refuses some values of them
        return
    if not _interpreted(mine):
        assert plain(mine) == plain(theirs)


def _interpreted(value: Any) -> bool:
    """Whether there is a tag in it that the reference turns into something else."""
    if isinstance(value, Tag):
        return True
    if isinstance(value, list):
        return any(map(_interpreted, value))
    if isinstance(value, dict):
        return any(map(_interpreted, value.values()))
    return False


@settings(max_examples=100)
@given(VALUES, st.data())
def test_whatever_is_cut_off_is_noticed(value, data):
    whole = cbor2.dumps(value)
    with pytest.raises(WireError):
        loads(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WireError, match="left over"):
        loads(whole + b"\x00")


def test_depth_and_lengths_are_bounded_before_anything_is_made():
    loads(b"\x81" * 30 + b"\x00")
    with pytest.raises(WireError, match="too deeply"):
        loads(b"\x81" * 100_000)
    for head in (b"\x9a\xff\xff\xff\xff", b"\xba\xff\xff\xff\xff", b"\x9b" + b"\xff" * 8):
        with pytest.raises(WireError, match="items cannot be in it"):
            loads(head + bytes(100))
    with pytest.raises(WireError, match="does not end"):
        loads(b"\x9f" + bytes(70_000))
    with pytest.raises(WireError, match="truncated"):
        loads(b"\x5a\xff\xff\xff\xff" + bytes(10))
