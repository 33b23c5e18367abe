"""The selftest: a table and JSON of the reference values, and an exit code that says when one is off."""

from __future__ import annotations

import json

import pytest

from tumble.daemon.cli import main
from tumble.recon.metrics import reference
from tumble.recon.metrics.reference import Reference


def _run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments=["selftest", *words])
    return int(ended.value.code or 0)


def test_all_values_are_as_they_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == 0
    said = capsys.readouterr().out
    assert "OFF" not in said
    for name in (
        "SCF, uniform",
        "E_od, side band",
        "cFAR, phantom, uniform",
        "sphericity",
        "B-factor",
        "99 % coverage",
    ):
        assert name in said
    assert said.strip().endswith("values are as they must be")


def test_one_that_is_off_is_named_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [Reference("good one", 1.0, 1.0, 0.1), Reference("bad one", 2.0, 1.0, 0.1)]
    monkeypatch.setattr(reference, "references", lambda: iter(values))
    assert _run() == 1
    assert capsys.readouterr().out.strip().endswith("off: bad one")
    assert _run("--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["good"] is False
    assert [value["good"] for value in said["values"]] == [True, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_off(value: float) -> None:
    assert not Reference("none", value, 1.0, 0.1).good
