"""Trilinear interpolation for the CPU, by rows: what two neighbours along x hold lies side by side, and is one vector.

The body in `bodies.py` reads sixteen numbers one by one. numba's compiler makes no vectors of them: here the four loads
and the arithmetic on them are spelt out. Half of the time of a slice.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(32)
_ROW = ir.VectorType(_FLOAT, 4)  # real and imaginary part of two neighbours
_UNDEFINED = ir.Constant(_ROW, ir.Undefined)
_FIRST = ir.Constant(ir.VectorType(_INDEX, 4), [0] * 4)
_RELAXED = ("fast",)


@intrinsic
def _blend(_context, volume, place, row, layer, fx, fy, fz):
    """Value between the eight points from `place` on; `row` and `layer` are steps along y and z, all in float32's."""
    if volume.layout != "C" or volume.dtype != types.float32:
        return None
    return types.UniTuple(types.float32, 2)(volume, place, row, layer, fx, fy, fz), _generate


def _generate(context, builder, signature, arguments):
    volume, place, row, layer, fx, fy, fz = arguments
    base = context.make_array(signature.args[0])(context, builder, volume).data

    def load(at):
        loaded = builder.load(builder.bitcast(builder.gep(base, [at]), _ROW.as_pointer()))
        loaded.align = 4
        return loaded

    def spread(value):
        return builder.shuffle_vector(builder.insert_element(_UNDEFINED, value, _INDEX(0)), _UNDEFINED, _FIRST)

    def between(first, second, share):
        rise = builder.fmul(share, builder.fsub(second, first, flags=_RELAXED), flags=_RELAXED)
        return builder.fadd(first, rise, flags=_RELAXED)

    above = builder.add(place, layer)
    y, z = spread(fy), spread(fz)
    low = between(load(place), load(builder.add(place, row)), y)
    high = between(load(above), load(builder.add(above, row)), y)
    row_value = between(low, high, z)
    parts = [builder.extract_element(row_value, _INDEX(i)) for i in range(4)]
    value = [between(parts[i], parts[i + 2], fx) for i in range(2)]
    return context.make_tuple(builder, signature.return_type, value)


@njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def interpolate(volume, half, x, y, z):
    """Trilinear value at grid position (x, y, z) of a flat volume; returns (real, imaginary)."""
    ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
    row = np.int64(2 * (2 * half + 1))
    layer = row * np.int64(2 * half + 1)
    place = np.int64(iz) * layer + np.int64(iy) * row + np.int64(2) * np.int64(ix)
    fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
    return _blend(volume, place, row, layer, fx, fy, fz)  # type: ignore[call-arg]  # the compiler gives the context
