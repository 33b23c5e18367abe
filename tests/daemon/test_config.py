"""The configuration: what is refused, and in which words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tumble.daemon.config import as_toml, check_source, load, options_from
from tumble.daemon.errors import UsageError
from tumble.recon.lens import Lens


def test_the_defaults_are_a_configuration():
    assert load(None).stream.when_full == "drop"


def test_a_file_is_read_and_the_command_line_wins(tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text('[reconstruction]\nelement = "Pt"\nbootstrap_frames = 300\n[session]\nrecord = false\n')
    settings = load(path, {"reconstruction": {"bootstrap_frames": 500, "element": None}}, {"session": {"record": True}})
    assert settings.reconstruction.element == "Pt"
    assert settings.reconstruction.bootstrap_frames == 500
    assert settings.session.record is False


def test_defaults_of_a_command_stand_where_nothing_is_said():
    assert load(None, {"session": {"record": None}}, {"session": {"record": True}}).session.record is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[reconstruction]\nelemnt = 'Pt'", "unknown key reconstruction.elemnt"),
        ("[reconstruction]\nelemnt = 'Pt'", "did you mean reconstruction.element?"),
        ("[sesion]\nrecord = true", "did you mean session?"),
        ("[colour]\nred = 1", "unknown key colour: there are control, detector, frontend"),
        ("[reconstruction]\npixel_size_A = -1.0", "reconstruction.pixel_size_A: input should be greater than 0"),
        ("[reconstruction]\nelement = 'platinum'", "reconstruction.element"),
        ("[status]\nrate_hz = 100", "status.rate_hz"),
        ("stream = 3", "stream"),
        ("not toml at all", "is not TOML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text, words, tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_shown_is_a_configuration_that_says_the_same(tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text('[frontend]\nlost_frames = 7\n[session]\nfolder = "a \\"b\\" \\\\ c"\n[monitoring]\nport = 9477\n')
    settings = load(path)
    path.write_text("\n".join(as_toml(settings)))
    assert load(path) == settings
    assert "# element =" in path.read_text()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no_such"):
        load(tmp_path / "no_such.toml")


@pytest.mark.parametrize("uri", ["zmq+tcp://detector:31001", "zmq+ipc:///run/x", "zmq+tcp://[::1]:9999"])
def test_stream_addresses(uri):
    assert check_source(uri) == uri


@pytest.mark.parametrize(
    "uri", ["", "detector", "http://x:1", "zmq+tcp://detector", "zmq+tcp://detector:port", "zmq+ipc://"]
)
def test_what_is_no_stream_address(uri):
    with pytest.raises(UsageError, match="not a stream address"):
        check_source(uri)


@dataclass(frozen=True)
class Options:
    radius_px: float = 1.0
    count: int = 2


def test_options_of_a_stage_are_checked_by_name_and_type():
    assert options_from(Options, {"radius_px": 3}, "frontend") == Options(3.0)
    with pytest.raises(UsageError, match=r"unknown key frontend\.radius"):
        options_from(Options, {"radius": 3}, "frontend")
    with pytest.raises(UsageError, match=r"frontend\.count"):
        options_from(Options, {"count": "many"}, "frontend")


def test_options_that_contradict_each_other_are_refused_in_words():
    assert options_from(Lens, {"cs_um": 10.0, "defocus_A": 54.0}, "optics").contrast == "auto"
    with pytest.raises(UsageError, match=r"^configuration: \[optics\] cs_um and defocus_A belong together: give both"):
        options_from(Lens, {"cs_um": 10.0}, "optics")
