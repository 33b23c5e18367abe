"""Compile the CUDA kernels without a GPU: `python compile_cuda.py [8.0 9.0 ...]` prints one JSON object.

``{"kernel sm_80": {"ptx": bytes, "registers": n, "stack": bytes, "spill": bytes, "loops": [...]}, ...}``, or
``{"missing": why}``. Registers and spills need ptxas on the path or in the environment, the machine instructions of the
innermost loops (one round of them works on one coefficient) nvdisasm; without them they are left out.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Kernels by the module of the reconstruction that launches them, and whether they are compiled with relaxed arithmetic.
KERNELS = {
    "kernels.cuda": (("_slice_all", "_score_all", "_refine_all", "_insert_all"), True),
    "kernels.pixels_cuda": (("_levels_all", "_correct_all", "_fill_all", "_bin_all", "_cut_all"), False),
    "solvers.cuda": (("_forward", "_adjoint"), False),
}


def signatures() -> dict[str, tuple[Any, ...]]:
    """Argument types of every kernel, as the launchers give them; frames are of uint16."""
    from numba import types
    from numba.cuda import boolean, float32, float64, int16, int64, uint16

    def floats(dimensions: int) -> Any:
        return types.Array(float32, dimensions, "C")

    rows, short = types.Array(int64, 1, "C"), types.Array(int16, 1, "C")
    places, counts, mask = (types.Array(of, 2, "C") for of in (int64, uint16, boolean))
    partial = types.Array(float64, 2, "C")
    projection = (floats(3), floats(3), floats(2), floats(3), floats(3))  # volume, axes, origins, tables, images
    model = (floats(1), int64, float32)
    plane = (short, short, floats(1), int64, int64, float32)  # kx, ky, weight, count, limit, step
    return {
        "_slice_all": (*model, floats(3), short, short, int64, floats(3)),
        "_score_all": (*model, rows, floats(4), floats(4), floats(2), *plane, floats(2), floats(3), floats(4)),
        "_refine_all": (*model, rows, floats(3), floats(2), floats(2), *plane, int64, floats(2), floats(1)),
        "_insert_all": (floats(5), floats(4), rows, int64, float32, rows, floats(3), floats(2), floats(1), floats(2),
                        *plane, floats(2)),
        "_levels_all": (counts, uint16, places),
        "_correct_all": (counts, floats(2), floats(2), mask, floats(2), partial),
        "_fill_all": (floats(2), rows, rows, places, float64),
        "_bin_all": (floats(3), int64, float32, boolean, floats(3)),
        "_cut_all": (counts, places, floats(1), mask, floats(3)),
        "_forward": projection, "_adjoint": projection,
    }  # fmt: skip


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit, if there is one."""
    packaged = sorted(Path(sysconfig.get_paths()["purelib"]).glob(f"nvidia/*/bin/{name}"))
    return str(packaged[-1]) if packaged else shutil.which(name)


def assembled(ptx: str, arch: str, program: str) -> dict[str, Any]:
    """What the machine code needs of every thread."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        call = [program, "-v", f"-arch={arch}", str(source), "-o", str(source.with_suffix(".cubin"))]
        log = subprocess.run(call, capture_output=True, text=True, check=True).stderr
        lister = tool("nvdisasm")
        call = [lister or "", "-c", str(source.with_suffix(".cubin"))]
        listing = subprocess.run(call, capture_output=True, text=True, check=True).stdout if lister else ""
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return {
        "registers": max(int(n) for n in re.findall(r"Used (\d+) registers", log)),
        "stack": max(int(f[0]) for f in frames),
        "spill": max(int(f[1]) + int(f[2]) for f in frames),
    } | ({"loops": loops(listing)} if listing else {})


KINDS = {"FFMA": "fp32", "FADD": "fp32", "FMUL": "fp32", "DFMA": "fp64", "DADD": "fp64", "DMUL": "fp64",
         "LDG": "loads", "LDS": "shared", "LDL": "local", "STL": "local", "RED": "atomics", "REDG": "atomics",
         "ATOM": "atomics", "ATOMG": "atomics"}  # fmt: skip


def loops(listing: str) -> list[dict[str, int]]:
    """Machine instructions of the innermost loops with more than eight in float32, by kind, from nvdisasm's listing."""
    places: dict[str, int] = {}
    code: list[tuple[str, str]] = []  # operation, operands
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            places[label[1]] = len(code)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9]+)(.*);", line):
            code.append((found[1], found[2]))
    spans = []
    for end, (operation, operands) in enumerate(code):
        target = re.search(r"\.L_x_\d+", operands) if operation == "BRA" else None
        if target and places.get(target[0], len(code)) < end:
            spans.append((places[target[0]], end + 1))
    result = []
    for low, high in spans:
        kinds = Counter(KINDS.get(operation, "other") for operation, _ in code[low:high])
        if kinds["fp32"] > 8 and not any((low, high) != s and low <= s[0] and s[1] <= high for s in spans):
            result.append({"instructions": high - low} | dict(sorted(kinds.items())))
    return result


def compiled(capability: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """Every kernel for one compute capability."""
    from numba import cuda
    from numba.cuda import dispatcher

    # device functions ask the GPU that is there what to compile for
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    arch, program, result, types = "sm_{}{}".format(*capability), tool("ptxas"), {}, signatures()
    options: dict[str, Any] = {"device": False, "cc": capability, "abi": "numba", "output": "ptx"}
    for module, (names, relaxed) in KERNELS.items():
        kernels = importlib.import_module(f"tumble.recon.{module}")
        for name in names:
            ptx, _ = cuda.compile(getattr(kernels, name).py_func, types[name], fastmath=relaxed, **options)
            result[f"{name} {arch}"] = {"ptx": len(ptx)} | (assembled(ptx, arch, program) if program else {})
    return result


def main() -> None:
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        for library in ("nvvm", "nvrtc"):
            load_nvidia_dynamic_lib(library)
    except DynamicLibNotFoundError as error:
        print(json.dumps({"missing": f"no {library} library: {str(error).splitlines()[0]}"}))
        return
    result: dict[str, dict[str, Any]] = {}
    for text in sys.argv[1:] or ["8.0", "9.0"]:
        major, minor = text.split(".")
        result |= compiled((int(major), int(minor)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
