"""Payloads that must never hurt: used against the codecs and, over a real socket, against the source.

Every entry of `V2` and `V1` has to end in a `WireError` (or, for `DAMAGED`, in a frame that cannot be expanded); never
in another exception, a crash, or memory taken on the word of the sender.
"""

from __future__ import annotations

import json
from typing import Any

import cbor2
import numpy as np

from tumble.stream.compression import compress

PIXELS = np.arange(48, dtype=np.uint16).reshape(6, 8)
PLAIN = PIXELS.tobytes()
BSLZ4 = compress(PIXELS, "bslz4")
LZ4 = compress(PIXELS, "lz4")


def array(dimensions: Any = (6, 8), content: Any = PLAIN, tag: int = 69, outer: int = 40) -> cbor2.CBORTag:
    """A multi-dimensional typed array, right by default."""
    return cbor2.CBORTag(outer, [list(dimensions), cbor2.CBORTag(tag, content)])


def compressed(blob: Any, algorithm: Any = "bslz4", size: Any = 2) -> cbor2.CBORTag:
    """Content of a typed array under tag 56500."""
    return cbor2.CBORTag(56500, [algorithm, size, blob])


def image(data: Any = None, **fields: Any) -> bytes:
    """An image message, right by default."""
    message = {"type": "image", "series_id": 1, "image_id": 0, "data": {"threshold_1": array()}}
    if data is not None:
        message["data"] = data
    message.update(fields)
    return cbor2.dumps({name: value for name, value in message.items() if value is not ...})


def _images(**contents: Any) -> dict[str, bytes]:
    return {name: image({"threshold_1": content}) for name, content in contents.items()}


V2: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x18",
    "text": b"hello, this is not CBOR",
    "truncated": image()[:-40],
    "nested too deep": b"\x81" * 100_000,
    "list longer than memory": b"\x9b\x0f" + b"\xff" * 7,
    "byte string longer than memory": b"\x5b\x0f" + b"\xff" * 7,
    "map longer than memory": b"\xbb\x0f" + b"\xff" * 7,
    "list as a key": b"\xa1\x81\x00\x00",
    "reserved length": b"\xa1\x64type\x1c",
    "break alone": b"\xff",
    "indefinite map without an end": b"\xbf\x64type\x63end",
    "indefinite text of other pieces": b"\xbf\x64type\x7f\x41a\xff\xff",
    "bytes left over": cbor2.dumps({"type": "end", "series_id": 1}) + b"\x00",
    "text that is not UTF-8": b"\xa1\x64type\x63\xff\xfe\xfd",
    "a number": cbor2.dumps(42),
    "a list": cbor2.dumps([1, 2, 3]),
    "no type": cbor2.dumps({"series_id": 1}),
    "type is a number": cbor2.dumps({"type": 3, "series_id": 1}),
    "start without series": cbor2.dumps({"type": "start"}),
    "start with a strange type": cbor2.dumps({"type": "start", "series_id": 1, "image_dtype": "object"}),
    "start with a strange mask": cbor2.dumps({"type": "start", "series_id": 1, "pixel_mask": {"a": array((6, 8, 1))}}),
    "start with a damaged mask": cbor2.dumps(
        {"type": "start", "series_id": 1, "pixel_mask": {"a": array(content=compressed(BSLZ4[:-3]))}}
    ),
    "end without series": cbor2.dumps({"type": "end"}),
    "series is text": image(series_id="1"),
    "series is true": image(series_id=True),
    "series is negative": image(series_id=-1),
    "series is enormous": image(series_id=2**80),
    "image number is missing": image(image_id=...),
    "image number is a fraction": image(image_id=1.5),
    "no data": image(data=...),
    "data is a list": image(data=[array()]),
    "data is empty": image(data={}),
    **_images(
        not_an_array=b"123",
        wrong_outer_tag=array(outer=41),
        no_dimensions=array(()),
        three_dimensions=array((1, 6, 8)),
        zero_dimension=array((0, 8)),
        negative_dimension=array((-6, 8)),
        text_dimension=array(("6", 8)),
        enormous_dimension=array((2**40, 2**40)),
        gigantic_dimension=array((2**70, 1)),
        nearly_a_gigabyte_too_many=array((2**15, 2**15 + 1)),
        float128=array(tag=87),
        unknown_element_type=array(tag=76),
        content_is_text=array(content="123"),
        content_is_a_list=array(content=[1, 2]),
        outer_is_not_a_pair=cbor2.CBORTag(40, [[6, 8]]),
        outer_is_a_number=cbor2.CBORTag(40, 7),
        compressed_is_not_a_triple=array(content=cbor2.CBORTag(56500, ["bslz4", 2])),
        compressed_with_an_unknown_algorithm=array(content=compressed(BSLZ4, "zip" * 50)),
        compressed_with_another_element_size=array(content=compressed(BSLZ4, size=4)),
        compressed_twice=array(content=compressed(compressed(BSLZ4))),
        algorithm_is_a_number=array(content=compressed(BSLZ4, 7)),
    ),
}


def _damaged() -> dict[str, bytes]:
    """Frames whose envelope is right and whose payload is not: they are found out when they are expanded."""
    blobs = {
        "bslz4 empty": (b"", "bslz4"),
        "bslz4 header only": (BSLZ4[:12], "bslz4"),
        "bslz4 truncated": (BSLZ4[:-1], "bslz4"),
        "bslz4 with bytes left over": (BSLZ4 + b"x", "bslz4"),
        "bslz4 announces more": (b"\x00" * 6 + b"\xff\xff" + BSLZ4[8:], "bslz4"),
        "bslz4 announces everything": (b"\xff" * 8 + BSLZ4[8:], "bslz4"),
        "bslz4 with odd blocks": (BSLZ4[:8] + b"\x00\x00\x00\x07" + BSLZ4[12:], "bslz4"),
        "bslz4 with giant blocks": (BSLZ4[:8] + b"\xff\xff\xff\xf0" + BSLZ4[12:], "bslz4"),
        "bslz4 with a giant length": (BSLZ4[:12] + b"\xff\xff\xff\xff" + BSLZ4[16:], "bslz4"),
        "bslz4 block of nothing": (BSLZ4[:12] + b"\x00\x00\x00\x00" + BSLZ4[16:], "bslz4"),
        "bslz4 match before the start": (BSLZ4[:12] + b"\x00\x00\x00\x08" + b"\x0f\x01\x00" + b"\xff" * 5, "bslz4"),
        "bslz4 of endless length": (BSLZ4[:12] + b"\x00\x00\x01\x00" + b"\xff" * 256, "bslz4"),
        "lz4 empty": (b"", "lz4"),
        "lz4 truncated": (LZ4[:-1], "lz4"),
        "lz4 with bytes left over": (LZ4 + b"x", "lz4"),
        "lz4 with blocks of nothing": (LZ4[:8] + b"\x00\x00\x00\x00" + LZ4[12:], "lz4"),
        "lz4 with distance zero": (LZ4[:12] + b"\x00\x00\x00\x06" + b"\x1fA\x00\x00\x20\x00", "lz4"),
    }
    frames = {name: image({"a": array(content=compressed(*blob))}) for name, blob in blobs.items()}
    frames["plain too short"] = image({"a": array(content=PLAIN[:-1])})
    frames["plain too long"] = image({"a": array(content=PLAIN + b"x")})
    frames["small blob, large shape"] = image({"a": array((2**14, 2**14), compressed(BSLZ4))})
    return frames


DAMAGED: dict[str, bytes] = _damaged()


def _json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


_DIMAGE = _json(htype="dimage-1.0", series=1, frame=0)


def _described(**fields: Any) -> bytes:
    return _json(**{"htype": "dimage_d-1.0", "shape": [8, 6], "type": "uint16", "encoding": "<", "size": 96, **fields})


V1: dict[str, list[bytes]] = {
    "open brace": [b"{"],
    "deep": [b'{"a":' * 5000],
    "not UTF-8": [b"{\xff\xfe"],
    "image of one part": [_DIMAGE],
    "image of two parts": [_DIMAGE, _described()],
    "image without description": [_DIMAGE, b"[]", b""],
    "image with another description": [_DIMAGE, _json(htype="dflatfield-1.0"), b""],
    "image without series": [_json(htype="dimage-1.0", frame=0), _described(), PLAIN],
    "image with a strange number": [_json(htype="dimage-1.0", series=1, frame="x"), _described(), PLAIN],
    "unknown encoding": [_DIMAGE, _described(encoding="bs16-zstd<"), b""],
    "encoding of another size": [_DIMAGE, _described(encoding="bs32-lz4<"), BSLZ4],
    "unknown type": [_DIMAGE, _described(type="complex64"), b""],
    "shape is text": [_DIMAGE, _described(shape="8x6"), b""],
    "shape is enormous": [_DIMAGE, _described(shape=[2**40, 2**40]), b""],
    "shape is flat": [_DIMAGE, _described(shape=[48]), b""],
    "start without series": [_json(htype="dheader-1.0", header_detail="none")],
    "end without series": [_json(htype="dseries_end-1.0")],
    "configuration that is no JSON": [_json(htype="dheader-1.0", header_detail="all", series=1), b"\x00\x01"],
}
