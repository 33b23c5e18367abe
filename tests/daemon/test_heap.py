"""Memory that was freed is there for the next message."""

import subprocess
import sys

import pytest

ROUNDS, BLOCKS = 40, 8
MEASURE = f"""
import resource, sys
from tumble.daemon.heap import keep_freed_memory

def faults():
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        blocks = [b"x" * (1 << 20) for _ in range({BLOCKS})]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began

faults()
print(faults(), int(keep_freed_memory()), faults() and faults())
"""


def test_messages_find_the_pages_of_those_before():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    before, kept, after = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library keeps what it wants to")
    assert after < ROUNDS * BLOCKS < before
