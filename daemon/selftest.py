"""`tumble selftest`: the metrics recomputed where their values are known, beside what they must be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import DONE, FAILED

if TYPE_CHECKING:
    from ..recon.metrics.reference import Reference


def selftest(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> int:
    """Recompute the metrics where their values are known; exits with 1 when one is off."""
    from ..recon.metrics.reference import references

    if not as_json:
        typer.echo(f"{'':5}{'':48}{'here':>10}{'expected':>11}   tolerance")
    found: list[Reference] = []
    for reference in references():
        found.append(reference)
        if not as_json:
            typer.echo(_line(reference))
    off = [reference.name for reference in found if not reference.good]
    if as_json:
        typer.echo(json.dumps({"good": not off, "values": [_mapping(reference) for reference in found]}))
    else:
        typer.echo(f"off: {'; '.join(off)}" if off else f"all {len(found)} values are as they must be")
    return FAILED if off else DONE


def _line(reference: Reference) -> str:
    word = "ok" if reference.good else "OFF"
    return f"{word:5}{reference.name:48}{reference.value:10.4f}{reference.expected:11.4f}   {reference.tolerance:g}"


def _mapping(reference: Reference) -> dict[str, str | float | bool]:
    return {
        "name": reference.name,
        "value": reference.value,
        "expected": reference.expected,
        "tolerance": reference.tolerance,
        "good": reference.good,
    }
