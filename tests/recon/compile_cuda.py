"""Compile the CUDA kernels without a GPU: `python compile_cuda.py [8.0 9.0 ...]` prints one JSON object.

``{"kernel sm_80": {"ptx": bytes, "registers": n, "stack": bytes, "spill": bytes}, ...}``, or ``{"missing": why}``.
Registers and spills need ptxas on the path or in the environment; without it they are left out.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

KERNELS = ("_slice_all", "_score_all", "_refine_all", "_insert_all")


def signatures() -> dict[str, tuple[Any, ...]]:
    """Argument types of every kernel, as the launchers give them."""
    from numba import types
    from numba.cuda import float32, int16, int64

    def floats(dimensions: int) -> Any:
        return types.Array(float32, dimensions, "C")

    rows, short = types.Array(int64, 1, "C"), types.Array(int16, 1, "C")
    model = (floats(4), int64, float32)
    plane = (short, short, floats(1), int64, int64, float32)  # kx, ky, weight, count, limit, step
    return {
        "_slice_all": (*model, floats(3), short, short, int64, floats(3)),
        "_score_all": (*model, rows, floats(4), floats(4), floats(3), *plane, floats(3), floats(3), floats(4)),
        "_refine_all": (*model, rows, floats(3), floats(2), floats(3), *plane, int64, floats(3), floats(1)),
        "_insert_all": (floats(5), floats(4), rows, int64, float32, rows, floats(3), floats(2), floats(1), floats(3),
                        *plane, floats(4)),
    }  # fmt: skip


def ptxas() -> str | None:
    """The assembler of the CUDA toolkit, if there is one."""
    packaged = sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/bin/ptxas"))
    return str(packaged[-1]) if packaged else shutil.which("ptxas")


def assembled(ptx: str, arch: str, program: str) -> dict[str, int]:
    """What the machine code needs of every thread."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        call = [program, "-v", f"-arch={arch}", str(source), "-o", str(source.with_suffix(".cubin"))]
        log = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return {
        "registers": max(int(n) for n in re.findall(r"Used (\d+) registers", log)),
        "stack": max(int(f[0]) for f in frames),
        "spill": max(int(f[1]) + int(f[2]) for f in frames),
    }


def compiled(capability: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Every kernel for one compute capability."""
    from numba import cuda
    from numba.cuda import dispatcher

    # device functions ask the GPU that is there what to compile for
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    from tumble.recon.kernels import cuda as kernels

    arch, program, result = "sm_{}{}".format(*capability), ptxas(), {}
    for name, types in signatures().items():
        function = getattr(kernels, name).py_func
        ptx, _ = cuda.compile(function, types, device=False, fastmath=True, cc=capability, abi="numba", output="ptx")
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
    result: dict[str, dict[str, int]] = {}
    for text in sys.argv[1:] or ["8.0", "9.0"]:
        major, minor = text.split(".")
        result |= compiled((int(major), int(minor)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
