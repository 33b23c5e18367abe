"""The elements in the order of their atomic numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

_IN_ORDER = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc
Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi
Po At Rn Fr Ra Ac Th Pa U
"""
SYMBOLS = tuple(_IN_ORDER.split())


def atomic_number(symbol: str) -> int:
    """Atomic number of an element.

    Raises
    ------
    ValueError : there is no such element up to uranium.
    """
    if symbol not in SYMBOLS:
        raise ValueError(f"{symbol} is no element up to uranium")
    return SYMBOLS.index(symbol) + 1


def lightest_first(symbols: Iterable[str]) -> tuple[str, ...]:
    """Elements in the order of their atomic numbers.

    Raises
    ------
    ValueError : one that is none, or the same twice.
    """
    given = sorted(symbols, key=atomic_number)
    for symbol, following in pairwise(given):
        if symbol == following:
            raise ValueError(f"{symbol} is named twice")
    return tuple(given)
