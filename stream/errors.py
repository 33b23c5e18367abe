"""What can be wrong with bytes from outside: one family of errors, so that a caller needs one ``except``."""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that came from outside are not what they claim to be; the message is one line that says what."""


class CompressionError(WireError):
    """A compressed payload is truncated, inconsistent or of an unknown kind."""


class RecordingError(WireError):
    """A recorded file is missing, is not what it claims to be, or holds no frames."""


class RecordingGoneError(RecordingError):
    """A file was removed while it was recorded to."""
