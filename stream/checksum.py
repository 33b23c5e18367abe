"""Check sums: CRC-32 of frames, as zlib computes it, at the speed of memory, and that of HDF5 for its own structures.

Sixty-four bytes are folded onto the next sixty-four by carry-less multiplication (Gopal et al. 2009, Fast CRC
Computation for Generic Polynomials Using PCLMULQDQ Instruction, Intel white paper 323102), which keeps the remainder
modulo the polynomial; the last ones go through a table. Where the processor does not multiply without carries zlib does
all. What is copied on the way goes past the caches, which do not need it again.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compression import Buffer

SEAL_BYTES = 4  # of a check sum of HDF5
_BLOCK = 64
_LANES = 4
_WORTH_IT = 1 << 13  # bytes; below it the call costs more than zlib
_BY_LANE = (0x0154442BD4, 0x01C6E41596)  # x^(512 + 32) and x^(512 - 32) modulo the polynomial, reflected
_NO_COPY = np.empty(0, np.uint8)
_WHOLE_STORE = 16  # bytes; only what lies at a multiple of it can go past the caches
_WORD = 0xFFFFFFFF
_POLYNOMIAL = 0xEDB88320


def crc32(data: Buffer, copy: memoryview | None = None) -> int:
    """CRC-32 of (bytes,) `data`: the number that `zlib.crc32` gives, without the interpreter lock.

    Parameters
    ----------
    copy : where the bytes are copied to on the way, as many as there are.
    """
    if len(data) < _WORTH_IT or not FOLDS:
        if copy is not None:
            copy[:] = data
        return zlib.crc32(data)
    target = _NO_COPY if copy is None else np.frombuffer(copy, np.uint8)
    return int(_fold(np.frombuffer(memoryview(data).toreadonly(), np.uint8), target))


def prepare() -> None:
    """Compile it (once; later it comes from a cache), so that the first frame does not wait for it."""
    crc32(bytes(_WORTH_IT), memoryview(bytearray(_WORTH_IT)))
    lookup3(b"once")


def lookup3(data: bytes) -> int:
    """Check sum of HDF5's own structures: hashlittle of lookup3.c (Bob Jenkins, May 2006, public domain), from 0 on."""
    if not data:
        return 0xDEADBEEF
    return int(_lookup3(np.frombuffer(data + bytes(-len(data) % 12), "<u4"), len(data)))


def sealed(content: bytes) -> bytes:
    """A structure of HDF5 with its check sum behind it."""
    return content + lookup3(content).to_bytes(SEAL_BYTES, "little")


def _can_fold() -> bool:
    """Whether numba compiles for a processor that has the instruction."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return False
    told = config.CPU_FEATURES  # type: ignore[attr-defined]
    if told is not None:
        return "+pclmul" in told.split(",")
    return bool(binding.get_host_cpu_features().get("pclmul"))


FOLDS = _can_fold()


def _byte_table() -> NDArray[np.uint32]:
    """(256,) what a byte alone amounts to."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1 ^ np.where(table & 1, _POLYNOMIAL, 0)).astype(np.uint32)
    return table


_BYTES = _byte_table()


def _blocks_folded(_typing: Any, _source: Any, _blocks: Any, _target: Any, _folded: Any, past_caches: Any) -> Any:
    """Of blocks at an address, their number, at least one, where they are copied to (0: nowhere) and folded to."""
    if not isinstance(past_caches, types.BooleanLiteral):
        return None
    past = past_caches.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word, number = ir.VectorType(ir.IntType(64), 2), ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, ir.IntType(8)])
        multiply = builder.module.declare_intrinsic("llvm.x86.pclmulqdq", fnty=kind)
        source, blocks, copied, folded, _ = arguments
        mark = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        source, target, folded = (builder.inttoptr(address, word.as_pointer()) for address in (source, copied, folded))
        factors = ir.Constant(word, list(_BY_LANE))
        with builder.goto_entry_block():
            lanes = [builder.alloca(word) for _ in range(_LANES)]

        def load(lane: int, block: Any) -> Any:
            at = builder.add(builder.mul(block, number(_LANES)), number(lane))
            return builder.load(builder.gep(source, [at]), align=1)

        def keep(values: list[Any], block: Any) -> None:
            with builder.if_then(builder.icmp_unsigned("!=", copied, number(0)), likely=True):
                for lane, value in enumerate(values):
                    at = builder.add(builder.mul(block, number(_LANES)), number(lane))
                    stored = builder.store(value, builder.gep(target, [at]), align=_WHOLE_STORE if past else 1)
                    if past:
                        stored.set_metadata("nontemporal", mark)

        firsts = [load(lane, number(0)) for lane in range(_LANES)]
        keep(firsts, number(0))
        for lane, (kept, value) in enumerate(zip(lanes, firsts, strict=True)):
            if lane == 0:  # the register begins with ones
                value = builder.xor(value, ir.Constant(word, [0xFFFFFFFF, 0]))
            builder.store(value, kept)
        with cgutils.for_range(builder, builder.sub(blocks, number(1))) as loop:
            block = builder.add(loop.index, number(1))
            loaded = [load(lane, block) for lane in range(_LANES)]
            keep(loaded, block)
            for kept, fresh in zip(lanes, loaded, strict=True):
                value = builder.load(kept)
                low, high = (builder.call(multiply, [value, factors, ir.IntType(8)(pick)]) for pick in (0x00, 0x11))
                builder.store(builder.xor(builder.xor(low, high), fresh), kept)
        if past:  # whoever reads it next may be another processor, or the disk
            fence = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse.sfence", fnty=fence), [])
        for lane, kept in enumerate(lanes):
            builder.store(builder.load(kept), builder.gep(folded, [number(lane)]), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, past_caches), generate


_fold_blocks: Any = intrinsic(_blocks_folded)


@njit(nogil=True, cache=True)
def _fold(source: NDArray[np.uint8], copy: NDArray[np.uint8]) -> int:
    """CRC-32 of (bytes,) `source`, at least a block; copied to `copy` if that has a size."""
    folded, target = np.empty(_BLOCK, np.uint8), copy.ctypes.data if copy.size else 0
    blocks = source.size // _BLOCK
    if target % _WHOLE_STORE:
        _fold_blocks(source.ctypes.data, blocks, target, folded.ctypes.data, False)
    else:
        _fold_blocks(source.ctypes.data, blocks, target, folded.ctypes.data, True)
    register = np.uint32(0)  # the ones that it begins with are in what was folded
    for at in range(_BLOCK):
        register = _BYTES[(register ^ folded[at]) & 0xFF] ^ (register >> np.uint32(8))
    for at in range(blocks * _BLOCK, source.size):
        register = _BYTES[(register ^ source[at]) & 0xFF] ^ (register >> np.uint32(8))
        if target:
            copy[at] = source[at]
    return int(register ^ np.uint32(_WORD))


@njit(nogil=True, cache=True)
def _lookup3(words: NDArray[np.uint32], length: int) -> int:
    """Of (n,) words, three or a multiple of three, that hold `length` bytes and zeros."""
    a = b = c = (0xDEADBEEF + length) & _WORD
    for at in range(0, words.size, 3):
        a, b, c = (a + words[at]) & _WORD, (b + words[at + 1]) & _WORD, (c + words[at + 2]) & _WORD
        if at < words.size - 3:
            for by in (4, 6, 8, 16, 19, 4):
                a = ((a - c) & _WORD) ^ _rotate(c, by)
                c = (c + b) & _WORD
                a, b, c = b, c, a
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotate(b, by)) & _WORD
        a, b, c = b, c, a
    return b


@njit(nogil=True, cache=True)
def _rotate(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & _WORD
