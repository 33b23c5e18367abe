"""Which GPUs there are, which are to be used, and what became of each: words and numbers that cross processes.

A GPU is known by its number among those that ``CUDA_VISIBLE_DEVICES`` leaves, in the order of ``nvidia-smi``. Every
process that computes on one sees only that one, where it is number 0, so no code has to switch between them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from .errors import UsageError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
PROCESSOR = "cpu"


@dataclass(frozen=True, slots=True)
class Found:
    """What a process has found to compute on.

    Attributes
    ----------
    name : ``NVIDIA H200, 139 GiB``, or "cpu".
    seen : GPUs that the process sees, whether they work or not.
    trouble : why it is not one of them; empty where nobody asked for one.
    """

    name: str
    seen: int = 0
    trouble: str = ""

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU, which has worked."""
        return self.name != PROCESSOR

    def pack(self) -> bytes:
        """As bytes, for a pipe."""
        return json.dumps(asdict(self)).encode()


def unpack(message: bytes) -> Found:
    """What `Found.pack` gave."""
    return Found(**json.loads(message))


def number_as_nvidia_smi() -> None:
    """CUDA counts the fastest GPU first, everybody else by the bus; before CUDA is begun, for this process and others.

    Where the operator has said which are visible, or in which order, that stands.
    """
    if not os.environ.get(VISIBLE):
        os.environ.setdefault(ORDER, "PCI_BUS_ID")


def own_device(number: int, visible: str) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` has to say so that a process sees GPU `number` only.

    Parameters
    ----------
    visible : what it says now, numbers or identifiers separated by commas; empty: every device.

    Raises
    ------
    UsageError : it leaves fewer.
    """
    words = [word.strip() for word in visible.split(",") if word.strip()]
    if words and number >= len(words):
        raise UsageError(f"there is no GPU {number}: {VISIBLE} is {visible}, so they are 0 to {len(words) - 1}")
    return words[number] if words else str(number)


def only(gpus: Sequence[int] | None, environment: Mapping[str, str]) -> str | None:
    """What ``CUDA_VISIBLE_DEVICES`` has to say for the first of `gpus`; ``None``: what it says already.

    Raises
    ------
    UsageError : there are fewer.
    """
    return None if gpus is None else own_device(gpus[0], environment.get(VISIBLE, ""))


def label(number: int) -> str:
    """``GPU 1``: the name of a GPU for people."""
    return f"GPU {number}"


def summary(names: Sequence[str]) -> str:
    """``2 x NVIDIA H200, 139 GiB``; different ones are joined by a +."""
    counted = {name: names.count(name) for name in names}
    return " + ".join(f"{count} x {name}" if count > 1 else name for name, count in counted.items())
