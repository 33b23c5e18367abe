"""What is said of a GPU, and what is done about one that fails: with stand-ins for what its libraries say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tumble.recon import device as devices
from tumble.recon.device import Device, best, card, cpu, out_of_memory, probe, recover


class FromCupy(MemoryError):
    """As cupy's OutOfMemoryError, which is a MemoryError too."""


def stand_in(check=lambda: None) -> tuple[Device, list[str]]:
    done: list[str] = []
    pool = SimpleNamespace(free_all_blocks=lambda: done.append("freed"))
    told = {"name": b"NVIDIA H200", "totalGlobalMem": 150_000_000_000}
    runtime = SimpleNamespace(getDeviceProperties=lambda number: told if number == 1 else {})
    xp = SimpleNamespace(get_default_memory_pool=lambda: pool, cuda=SimpleNamespace(runtime=runtime))
    return replace(cpu(1), name="cuda:1", xp=xp, kernels=SimpleNamespace(check=check)), done


def test_its_name_and_memory() -> None:
    assert card(stand_in()[0]) == "NVIDIA H200, 140 GiB"
    assert card(cpu(1)) == "cpu"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (FromCupy("Out of memory allocating 1,073,741,824 bytes (allocated so far: 0 bytes)."), True),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), True),
        (RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in it"), True),
        (RuntimeError("CUFFT_ALLOC_FAILED"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"), False),
        (ValueError("no lattice"), False),
    ],
)  # fmt: skip
def test_no_memory_is_told_from_a_fault(error: Exception, *, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory

    def check() -> None:
        raise error

    device, done = stand_in(check)
    assert bool(recover(device)) is not is_memory
    assert done == ["freed"]


def test_a_device_that_works_goes_on() -> None:
    assert recover(stand_in()[0]) == ""
    assert recover(cpu(1)) == ""


def test_why_it_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUMBLE_DEVICE", "cpu")
    assert best()[1] == "TUMBLE_DEVICE=cpu"
    monkeypatch.delenv("TUMBLE_DEVICE")

    def refuse() -> Device:
        raise RuntimeError("no GPU: deliberate")

    monkeypatch.setattr(devices, "gpu", refuse)
    device, words = best()
    assert (device.name, words) == ("cpu", "no GPU: deliberate")
    assert probe().name == "cpu"
