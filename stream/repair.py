"""Make the recording of a killed process an ordinary HDF5 file again.

A writer in SWMR mode marks the file as open in its superblock; a killed one leaves the mark, and HDF5 then opens the
file with ``swmr=True`` only. This does what the tool h5clear does, so that nobody has to have that tool: it takes the
mark away and sets the end of the file to where the file ends. Layout after the HDF5 File Format Specification, version
3.0, section II.A (superblock versions 2 and 3).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from .checksum import lookup3
from .errors import RecordingError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LAYOUT = struct.Struct("<8sBBBBQQQQ")  # signature, version, sizes of offsets and lengths, flags, four addresses
_CHECKSUM = struct.Struct("<I")
_FLAGS, _FLAGS_FIELD, _END = 11, 4, 7  # where the marks stand: their byte, and the fields of the layout
HEAD_BYTES = _LAYOUT.size
WRITTEN_TO = 0b101  # marks: open for writing, and for readers beside the writer


def repair_recording(path: str | Path) -> bool:
    """Clear the mark a killed writer left. The frames are not touched. Nobody may have the file open for writing.

    Returns
    -------
    Whether there was a mark to clear.

    Raises
    ------
    RecordingError : not an HDF5 file of the kind a recorder writes, its header is damaged, or it cannot be written.
    """
    try:
        with Path(path).open("r+b") as file:
            head = file.read(_LAYOUT.size)
            stored = file.read(_CHECKSUM.size)
            if len(stored) != _CHECKSUM.size or head[:8] != _SIGNATURE or head[8] not in (2, 3) or head[9] != 8:
                raise RecordingError(f"{path} is not an HDF5 file as a recorder writes it")
            if _CHECKSUM.unpack(stored)[0] != lookup3(head):
                raise RecordingError(f"{path}: the header of the file is damaged")
            if not head[_FLAGS]:
                return False
            end = max(_LAYOUT.unpack(head)[_END], os.fstat(file.fileno()).st_size)
            file.seek(0)
            file.write(superblock(head, 0, end))
            return True
    except OSError as error:
        raise RecordingError(f"{path} cannot be repaired: {error.strerror}") from None


def superblock(head: bytes, flags: int, end: int) -> bytes:
    """The first bytes of a file with its marks and the address behind its last byte changed, check sum included."""
    fields = list(_LAYOUT.unpack(head[: _LAYOUT.size]))
    fields[_FLAGS_FIELD], fields[_END] = flags, end
    changed = _LAYOUT.pack(*fields)
    return changed + _CHECKSUM.pack(lookup3(changed))
