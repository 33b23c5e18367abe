"""Text from outside, before it goes into files, between processes and onto a terminal."""

from __future__ import annotations

MOST_CHARACTERS = 200


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """The first `most` characters of `text`; those that no line can show become question marks.

    HDF5 takes no zero characters, no encoding takes half of a surrogate pair, and terminals obey control characters.
    """
    return "".join(character if character.isprintable() else "?" for character in text[:most])
