"""Our publisher and our tee, read by the sample receiver of DECTRIS's public documentation, unmodified.

It is not ours to keep here: `TUMBLE_DECTRIS_CLIENT` is the path of a copy of stream_v2/examples/client.py from
https://github.com/dectris/documentation, and an interpreter with dectris-compression is found as for `test_interop`.
"""

from __future__ import annotations

import os
import subprocess
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from tumble.stream.encoded import encode_frame
from tumble.stream.frame import Frame, SeriesEnd, SeriesStart
from tumble.stream.publisher import Publisher

from .test_interop import interpreter_with

pytestmark = pytest.mark.interop

RECEIVER = """
import importlib.util, sys, zlib
import cbor2, numpy, zmq
spec = importlib.util.spec_from_file_location("client", sys.argv[1])
client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client)
socket = zmq.Context().socket(zmq.PULL)
socket.connect(sys.argv[2])
while True:
    message = cbor2.loads(socket.recv(), tag_hook=client.tag_hook)
    if message["type"] == "image":
        (image,) = message["data"].values()
        print("image", message["image_id"], image.shape, image.dtype.str, zlib.crc32(numpy.ascontiguousarray(image)))
    elif message["type"] == "start":
        (mask,) = message["pixel_mask"].values()
        print("start", message["series_id"], message["image_size_x"], message["image_size_y"], int(mask.sum()))
    else:
        print("end", message["series_id"], flush=True)
        break
"""


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_its_sample_receiver_reads_our_stream(compression, tmp_path):
    client = os.environ.get("TUMBLE_DECTRIS_CLIENT", "")
    python = interpreter_with("dectris.compression")
    if not Path(client).is_file() or python is None:
        pytest.skip("no copy of the sample receiver, or no dectris-compression")
    rng = np.random.default_rng(0)
    images = [rng.poisson(3.0, (33, 57)).astype(dtype) for dtype in ("u1", "<u2", "<u4", "<u2", "<f4")]
    events = [
        SeriesStart(7, width=57, height=33, pixel_mask=np.eye(33, 57, dtype=np.uint32)),
        *(encode_frame(Frame(7, index, image, index * 0.1), compression) for index, image in enumerate(images)),
        SeriesEnd(7),
    ]
    with Publisher(compression=compression) as publisher:
        sender = threading.Thread(target=publisher.publish, args=(events,), daemon=True)
        sender.start()
        words = [python, "-c", RECEIVER, client, publisher.endpoint]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        sender.join(10)
    expected = [
        f"image {index} {image.shape} {image.dtype.str} {zlib.crc32(image)}" for index, image in enumerate(images)
    ]
    assert ran.stdout.splitlines() == ["start 7 57 33 33", *expected, "end 7"], ran.stderr
