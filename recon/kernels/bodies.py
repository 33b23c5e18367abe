"""Scalar kernel bodies, written once. `build(jit, team)` compiles them: numba.njit for the CPU, cuda.jit(device=True)
for CUDA.

One pose is worked on by a `Team` of threads: one thread on the CPU, a block on a GPU. Its threads share the
coefficients and the phase tables; everything else, and every branch taken, is the same in all of them.

Conventions. `volume` is the oversampled 3D Fourier transform of a real map: ``(s, s, s, 2)`` float32, ``[z, y, x,
real/imaginary]``, s odd, zero frequency at ``[half, half, half]``, `pad` grid steps per cycle per box. The image of
pose R has the coefficient ``volume(R^T k)`` at ``k = (kx, ky, 0)`` (projection-slice theorem), times ``exp(-i step
k.s)`` for a particle shifted by s pixels, ``step = 2 pi / box_px``. `rotation` is R, (3, 3) float32. `coefficients`
``(n, 2)`` float32 are those of one box, `weight` ``(n,)`` the inverse noise power. Volume and coefficients come flat:
the compiler makes vectors of loops whose strides it knows. The log-likelihood, against no particle at all, is
``sum_j weight_j (2 Re(conj(F_j) M_j) - |M_j|^2)`` over a half plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

PARAMETERS = 5  # three rotation angles about the lab axes, two shifts
NORMAL_SIZE = 20  # five gradients, then the upper triangle of the 5 x 5 normal matrix


@dataclass(frozen=True, slots=True)
class Team:
    """Compiled functions by which the threads that work on one pose divide it.

    Attributes
    ----------
    first, stride : () -> int; this thread takes the coefficients ``first(), first() + stride(), ...``.
    total : (value) -> sum of the values of all threads, the same number in all of them.
    meet : () -> None; nobody goes on before all have come, and what they wrote can be read.
    add : (array, index, value) -> None; ``array[index] += value``, whoever else adds there.
    """

    first: Any
    stride: Any
    total: Any
    meet: Any
    add: Any


def build(jit: Callable[[Any], Any], team: Team, interpolation: Any = None) -> SimpleNamespace:
    """Compile all bodies with `jit`, for a team of threads a pose, and return them by name.

    `interpolation` is a compiled function that takes the place of `interpolate`.
    """
    first, stride, total, meet, add = team.first, team.stride, team.total, team.meet, team.add

    @jit
    def interpolate(volume, half, x, y, z):
        """Trilinear value at grid position (x, y, z); returns (real, imaginary)."""
        ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
        fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
        one = np.float32(1)
        gx, gy, gz = one - fx, one - fy, one - fz
        row = np.int32(2 * (2 * half + 1))
        layer = np.int32(2 * half + 1) * row
        p = np.uint32(iz * layer + iy * row + np.int32(2) * ix)
        q, r = p + np.uint32(row), p + np.uint32(layer)
        s = q + np.uint32(layer)
        a, b, c, d = gz * gy, gz * fy, fz * gy, fz * fy
        real = gx * (a * volume[p] + b * volume[q] + c * volume[r] + d * volume[s]) + fx * (
            a * volume[p + 2] + b * volume[q + 2] + c * volume[r + 2] + d * volume[s + 2]
        )
        imaginary = gx * (a * volume[p + 1] + b * volume[q + 1] + c * volume[r + 1] + d * volume[s + 1]) + fx * (
            a * volume[p + 3] + b * volume[q + 3] + c * volume[r + 3] + d * volume[s + 3]
        )
        return real, imaginary

    interpolated = interpolation or interpolate

    @jit
    def interpolate_gradient(volume, place, row, layer, fx, fy, fz):
        """Value and derivatives along x, y, z (per grid step) of the real part at `place`, or the imaginary one after
        it.
        """
        one, next_x = np.float32(1), np.uint32(2)
        gx, gy, gz = one - fx, one - fy, one - fz
        next_y, next_z = place + row, place + layer
        next_both = next_y + layer
        v000, v001 = volume[place], volume[place + next_x]
        v010, v011 = volume[next_y], volume[next_y + next_x]
        v100, v101 = volume[next_z], volume[next_z + next_x]
        v110, v111 = volume[next_both], volume[next_both + next_x]
        low = gy * (gx * v000 + fx * v001) + fy * (gx * v010 + fx * v011)
        high = gy * (gx * v100 + fx * v101) + fy * (gx * v110 + fx * v111)
        dx = gz * (gy * (v001 - v000) + fy * (v011 - v010)) + fz * (gy * (v101 - v100) + fy * (v111 - v110))
        dy = gz * (gx * (v010 - v000) + fx * (v011 - v001)) + fz * (gx * (v110 - v100) + fx * (v111 - v101))
        return gz * low + fz * high, dx, dy, high - low

    @jit
    def phase_tables(tables, limit, angle_x, angle_y):
        """Cosines of ``angle_x (i - limit)``, i = 0..2 limit, then sines, then both of `angle_y`: flat, float32."""
        meet()  # the last tables may still be in use
        length = 2 * limit + 1
        for axis in range(2):
            angle = angle_y if axis else angle_x
            begin, turn = angle * np.float64(first() - limit), angle * np.float64(stride())
            cosine, sine = math.cos(begin), math.sin(begin)
            turn_cosine, turn_sine = math.cos(turn), math.sin(turn)  # from one entry of this thread to its next
            for i in range(first(), length, stride()):
                tables[2 * axis * length + i], tables[(2 * axis + 1) * length + i] = cosine, sine
                cosine, sine = cosine * turn_cosine - sine * turn_sine, cosine * turn_sine + sine * turn_cosine
        meet()

    @jit
    def phase(tables, limit, kx, ky):
        """Cosine and sine at a coefficient."""
        length = np.uint32(2 * limit + 1)
        x, y = np.uint32(np.int32(kx) + np.int32(limit)), np.uint32(np.int32(ky) + np.int32(limit)) + length + length
        cosine = tables[x] * tables[y] - tables[x + length] * tables[y + length]
        sine = tables[x] * tables[y + length] + tables[x + length] * tables[y]
        return cosine, sine

    @jit
    def cross_terms(volume, half, pad, rotation, coefficients, kx, ky, weight, count, cross, turned):
        """cross_j = weight_j conj(F_j) M_j for a pose, and the same for that pose turned by a half turn about the beam.

        The half turn takes k to -k in the image plane, where a real map has the conjugate value: one interpolation
        serves both poses. Returns the energy sum_j weight_j |M_j|^2, which they share.
        """
        ax, ay, az = pad * rotation[0, 0], pad * rotation[0, 1], pad * rotation[0, 2]
        bx, by, bz = pad * rotation[1, 0], pad * rotation[1, 1], pad * rotation[1, 2]
        centre = np.float32(half)
        energy = np.float32(0)
        for j in range(first(), count, stride()):
            u, v = np.float32(kx[j]), np.float32(ky[j])
            real, imaginary = interpolated(
                volume, half, ax * u + bx * v + centre, ay * u + by * v + centre, az * u + bz * v + centre
            )
            w = weight[j]
            fr, fi = w * coefficients[2 * j], w * coefficients[2 * j + 1]
            a, b, c, d = fr * real, fi * imaginary, fr * imaginary, fi * real
            cross[2 * j] = a + b
            cross[2 * j + 1] = c - d
            turned[2 * j] = a - b
            turned[2 * j + 1] = -c - d
            energy += w * (real * real + imaginary * imaginary)
        return total(energy)

    @jit
    def shift_newton(cross, kx, ky, count, limit, step, shift_x, shift_y, longest, tables):
        """One Newton step of the shift, at most `longest` pixels; returns (x, y, predicted value)."""
        phase_tables(tables, limit, -step * shift_x, -step * shift_y)
        value = gx = gy = hxx = hxy = hyy = np.float32(0)
        for j in range(first(), count, stride()):
            cosine, sine = phase(tables, limit, kx[j], ky[j])
            real = cross[2 * j] * cosine - cross[2 * j + 1] * sine
            imaginary = cross[2 * j] * sine + cross[2 * j + 1] * cosine
            a, b = step * np.float32(kx[j]), step * np.float32(ky[j])
            value += real
            gx += a * imaginary
            gy += b * imaginary
            hxx += a * a * real
            hxy += a * b * real
            hyy += b * b * real
        value, gx, gy = total(value), total(gx), total(gy)
        hxx, hxy, hyy = total(hxx), total(hxy), total(hyy)
        determinant = hxx * hyy - hxy * hxy
        if hxx <= 0 or determinant <= 0:  # not near a maximum: stay
            return shift_x, shift_y, value
        dx = (hyy * gx - hxy * gy) / determinant
        dy = (hxx * gy - hxy * gx) / determinant
        length = math.sqrt(dx * dx + dy * dy)
        if length > longest:
            dx, dy = dx * longest / length, dy * longest / length
        value += gx * dx + gy * dy - 0.5 * (hxx * dx * dx + 2 * hxy * dx * dy + hyy * dy * dy)
        return shift_x + dx, shift_y + dy, value

    @jit
    def best_shift(cross, kx, ky, count, limit, step, start, tables):
        """Two Newton steps from `start`; returns (Re sum_j cross_j exp(-i step k.s), x, y)."""
        longest = np.float32(0.7)
        x, y, _ = shift_newton(cross, kx, ky, count, limit, step, start[0], start[1], longest, tables)
        x, y, value = shift_newton(cross, kx, ky, count, limit, step, x, y, longest, tables)
        return value, x, y

    @jit
    def score_pair(
        volume, half, pad, rotation, coefficients, kx, ky, weight, count, limit, step, start, turned_start, work, score,
        shift,
    ):  # fmt: skip
        """Log-likelihoods of a pose and of its half turn about the beam, each maximised over the shift near its start.

        `work` is (4 count + 8 limit + 4,) float32 scratch; `score` (2,) and `shift` (2, 2) receive the results.
        """
        cross, turned, tables = work[: 2 * count], work[2 * count : 4 * count], work[4 * count :]
        energy = cross_terms(volume, half, pad, rotation, coefficients, kx, ky, weight, count, cross, turned)
        value, x, y = best_shift(cross, kx, ky, count, limit, step, start, tables)
        score[0], shift[0, 0], shift[0, 1] = 2 * value - energy, x, y
        value, x, y = best_shift(turned, kx, ky, count, limit, step, turned_start, tables)
        score[1], shift[1, 0], shift[1, 1] = 2 * value - energy, x, y

    @jit
    def normal_equations(
        volume, half, pad, rotation, coefficients, kx, ky, weight, count, limit, step, shift_x, shift_y, tables, normal
    ):
        """Log-likelihood at a pose, and its gradient and Gauss-Newton matrix in the five pose parameters.

        `normal` (20,) float32 receives d L / d p and -d2 L / dp dq (upper triangle, row by row), both divided by 2.
        """
        phase_tables(tables, limit, step * shift_x, step * shift_y)
        r00, r01, r02 = rotation[0, 0], rotation[0, 1], rotation[0, 2]
        r10, r11, r12 = rotation[1, 0], rotation[1, 1], rotation[1, 2]
        r20, r21, r22 = rotation[2, 0], rotation[2, 1], rotation[2, 2]
        centre, scale, edge = np.float32(half), np.float32(pad), np.int32(2 * half + 1)
        row = np.int32(2) * edge
        layer = edge * row
        score = energy = np.float32(0)
        g0 = g1 = g2 = g3 = g4 = np.float32(0)
        h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = np.float32(0)
        h22 = h23 = h24 = h33 = h34 = h44 = np.float32(0)
        for j in range(first(), count, stride()):
            u, v, w = np.float32(kx[j]), np.float32(ky[j]), weight[j]
            cosine, sine = phase(tables, limit, kx[j], ky[j])
            # the box moved back by the shift is compared with the unshifted slice
            fr = coefficients[2 * j] * cosine - coefficients[2 * j + 1] * sine
            fi = coefficients[2 * j] * sine + coefficients[2 * j + 1] * cosine
            x = scale * (r00 * u + r10 * v) + centre
            y = scale * (r01 * u + r11 * v) + centre
            z = scale * (r02 * u + r12 * v) + centre
            ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
            fx, fy, fz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
            place = np.uint32(iz * layer + iy * row + np.int32(2) * ix)
            steps = np.uint32(row), np.uint32(layer)
            mr, xr, yr, zr = interpolate_gradient(volume, place, *steps, fx, fy, fz)
            mi, xi, yi, zi = interpolate_gradient(volume, place + np.uint32(1), *steps, fx, fy, fz)
            # gradient turned into the lab frame, then d/d(omega) = (-gz ky, gz kx, gx ky - gy kx)
            lxr, lyr = r00 * xr + r01 * yr + r02 * zr, r10 * xr + r11 * yr + r12 * zr
            lzr = r20 * xr + r21 * yr + r22 * zr
            lxi, lyi = r00 * xi + r01 * yi + r02 * zi, r10 * xi + r11 * yi + r12 * zi
            lzi = r20 * xi + r21 * yi + r22 * zi
            su, sv = scale * u, scale * v
            a0r, a0i = -lzr * sv, -lzi * sv
            a1r, a1i = lzr * su, lzi * su
            a2r, a2i = lxr * sv - lyr * su, lxi * sv - lyi * su
            pu, pv = np.float32(step) * u, np.float32(step) * v
            a3r, a3i = pu * mi, -pu * mr  # d/ds of M exp(-i step k.s) = -i step k M
            a4r, a4i = pv * mi, -pv * mr
            er, ei = w * (fr - mr), w * (fi - mi)
            score += w * (fr * mr + fi * mi)
            energy += w * (mr * mr + mi * mi)
            g0 += er * a0r + ei * a0i
            g1 += er * a1r + ei * a1i
            g2 += er * a2r + ei * a2i
            g3 += er * a3r + ei * a3i
            g4 += er * a4r + ei * a4i
            h00 += w * (a0r * a0r + a0i * a0i)
            h01 += w * (a0r * a1r + a0i * a1i)
            h02 += w * (a0r * a2r + a0i * a2i)
            h03 += w * (a0r * a3r + a0i * a3i)
            h04 += w * (a0r * a4r + a0i * a4i)
            h11 += w * (a1r * a1r + a1i * a1i)
            h12 += w * (a1r * a2r + a1i * a2i)
            h13 += w * (a1r * a3r + a1i * a3i)
            h14 += w * (a1r * a4r + a1i * a4i)
            h22 += w * (a2r * a2r + a2i * a2i)
            h23 += w * (a2r * a3r + a2i * a3i)
            h24 += w * (a2r * a4r + a2i * a4i)
            h33 += w * (a3r * a3r + a3i * a3i)
            h34 += w * (a3r * a4r + a3i * a4i)
            h44 += w * (a4r * a4r + a4i * a4i)
        normal[0], normal[1], normal[2], normal[3], normal[4] = total(g0), total(g1), total(g2), total(g3), total(g4)
        normal[5], normal[6], normal[7], normal[8] = total(h00), total(h01), total(h02), total(h03)
        normal[9], normal[10], normal[11], normal[12] = total(h04), total(h11), total(h12), total(h13)
        normal[13], normal[14], normal[15], normal[16] = total(h14), total(h22), total(h23), total(h24)
        normal[17], normal[18], normal[19] = total(h33), total(h34), total(h44)
        return 2 * total(score) - total(energy)

    @jit
    def damped_step(normal, damping, matrix, step):
        """Solve (H + damping diag H) step = g by Cholesky; `matrix` (5, 5) float64 scratch. False if not positive."""
        index = 5
        for i in range(5):
            for j in range(i, 5):
                matrix[j, i] = normal[index] * ((1 + damping) if i == j else 1.0)
                index += 1
        for i in range(5):
            for j in range(i + 1):
                rest = matrix[i, j]
                for k in range(j):
                    rest -= matrix[i, k] * matrix[j, k]
                if i == j:
                    if rest <= 0:
                        return False
                    matrix[i, i] = math.sqrt(rest)
                else:
                    matrix[i, j] = rest / matrix[j, j]
        for i in range(5):
            rest = normal[i] + 0.0
            for k in range(i):
                rest -= matrix[i, k] * step[k]
            step[i] = rest / matrix[i, i]
        for i in range(4, -1, -1):
            rest = step[i]
            for k in range(i + 1, 5):
                rest -= matrix[k, i] * step[k]
            step[i] = rest / matrix[i, i]
        return True

    @jit
    def rotate(rotation, x, y, z, out):
        """out = exp([x, y, z]) rotation (Rodrigues)."""
        angle = math.sqrt(x * x + y * y + z * z) + 1e-12
        c, s = math.cos(angle), math.sin(angle)
        x, y, z = x / angle, y / angle, z / angle
        t = 1 - c
        for j in range(3):
            p, q, r = rotation[0, j], rotation[1, j], rotation[2, j]
            out[0, j] = (c + x * x * t) * p + (x * y * t - z * s) * q + (x * z * t + y * s) * r
            out[1, j] = (y * x * t + z * s) * p + (c + y * y * t) * q + (y * z * t - x * s) * r
            out[2, j] = (z * x * t - y * s) * p + (z * y * t + x * s) * q + (c + z * z * t) * r

    @jit
    def refine_pose(
        volume, half, pad, rotation, coefficients, kx, ky, weight, count, limit, step, shift, rounds,
        tables, normals, matrix, delta, trial,
    ):  # fmt: skip
        """Levenberg-Marquardt on rotation (3) and shift (2), in place; returns the log-likelihood reached.

        `rotation` (3, 3) and `shift` (2,) float32 are updated. Scratch: `tables` (8 limit + 4,) float32, `normals`
        (2, 20), `matrix` (5, 5) and `delta` (5,) float64, `trial` (3, 3) float32. The team shares `tables`; of the
        rest every thread has its own, and all come to the same values.
        """
        normal, trial_normal = normals[0], normals[1]
        best = normal_equations(
            volume, half, pad, rotation, coefficients, kx, ky, weight, count, limit, step, shift[0], shift[1], tables,
            normal,
        )  # fmt: skip
        damping = 0.03
        for _ in range(rounds):
            if not damped_step(normal, damping, matrix, delta):
                damping = max(10 * damping, 1e-3)
                continue
            turn = math.sqrt(delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2)
            move = math.sqrt(delta[3] ** 2 + delta[4] ** 2)
            if turn < 2e-4 and move < 3e-3:
                break
            limit_factor = min(1.0, 0.05 / (turn + 1e-12), 1.0 / (move + 1e-12))  # 3 degrees, 1 px a step
            for i in range(5):
                delta[i] *= limit_factor
            rotate(rotation, delta[0], delta[1], delta[2], trial)
            value = normal_equations(
                volume, half, pad, trial, coefficients, kx, ky, weight, count, limit, step,
                shift[0] + delta[3], shift[1] + delta[4], tables, trial_normal,
            )  # fmt: skip
            if value > best:
                best = value
                for i in range(3):
                    for j in range(3):
                        rotation[i, j] = trial[i, j]
                shift[0] += delta[3]
                shift[1] += delta[4]
                for i in range(20):
                    normal[i] = trial_normal[i]
                damping *= 0.3
            else:
                damping *= 8
                if damping > 1e4:
                    break
        return best

    @jit
    def insert_slice(
        numerator, denominator, half, pad, rotation, coefficients, kx, ky, weight, count, limit, step, shift, share,
        tables,
    ):  # fmt: skip
        """Adjoint of slicing: spread the coefficients of a box, moved back by its shift, over their grid neighbours.

        `numerator` (s, s, half + 1, 2) gathers ``share weight F``, `denominator` (s, s, half + 1) ``share weight``: of
        x >= 0, what lies before it as its mate, ``F(-k) = conj(F(k))``.
        """
        phase_tables(tables, limit, step * shift[0], step * shift[1])
        centre = np.float32(half)
        for j in range(first(), count, stride()):
            u, v = np.float32(kx[j]), np.float32(ky[j])
            cosine, sine = phase(tables, limit, kx[j], ky[j])
            w = share * weight[j]
            real = w * (coefficients[2 * j] * cosine - coefficients[2 * j + 1] * sine)
            imaginary = w * (coefficients[2 * j] * sine + coefficients[2 * j + 1] * cosine)
            x = pad * (rotation[0, 0] * u + rotation[1, 0] * v)
            side = np.float32(1) if x >= 0 else np.float32(-1)
            x, imaginary = side * x, side * imaginary
            y = side * pad * (rotation[0, 1] * u + rotation[1, 1] * v) + centre
            z = side * pad * (rotation[0, 2] * u + rotation[1, 2] * v) + centre
            ix, iy, iz = int(x), int(y), int(z)
            fx, fy, fz = np.float32(x - ix), np.float32(y - iy), np.float32(z - iz)
            for dz in range(2):
                uz = fz if dz else 1 - fz
                for dy in range(2):
                    uy = uz * (fy if dy else 1 - fy)
                    for dx in range(2):
                        part = uy * (fx if dx else 1 - fx)
                        add(numerator, (iz + dz, iy + dy, ix + dx, 0), part * real)
                        add(numerator, (iz + dz, iy + dy, ix + dx, 1), part * imaginary)
                        add(denominator, (iz + dz, iy + dy, ix + dx), part * w)

    return SimpleNamespace(
        interpolate=interpolate,
        interpolate_gradient=interpolate_gradient,
        cross_terms=cross_terms,
        shift_newton=shift_newton,
        score_pair=score_pair,
        normal_equations=normal_equations,
        refine_pose=refine_pose,
        rotate=rotate,
        insert_slice=insert_slice,
    )
