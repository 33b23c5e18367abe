"""`tumble config`, `tumble keys` and `tumble control` as an operator types them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tumble.daemon.cli import main
from tumble.daemon.control import ControlServer
from tumble.daemon.keys import KeyFolder, new_pair
from tumble.daemon.orders import Orders


@pytest.fixture
def ask(capfd):
    """Run a command in this process; returns (exit code, standard output, standard error)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(None, [str(word) for word in words])
        out, error = capfd.readouterr()
        return int(caught.value.code or 0), out, error

    return run


def test_a_configuration_is_checked(ask, tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text('[reconstruction]\nelement = "Pt"\n')
    assert ask("config", "check", path) == (0, f"{path} is a configuration\n", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[frontend]\nlost_frame = 3", "did you mean frontend.lost_frames?"),
        ("[frontend]\nlost_frames = -3", "lost_frames must be positive"),
        ("[reconstruction]\nbuffer = 3", "did you mean reconstruction.buffer_frames?"),
        ('[stream]\nsource = "detector"', "not a stream address"),
        ('[status]\nendpoint = "tcp://0.0.0.0:5"', "there are no keys"),
        ('[control]\nendpoint = "tcp://0.0.0.0:5"', "there are no keys"),
        ('[log]\nformat = "xml"', "log.format"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_one_line(text, words, ask, tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text(text)
    code, out, error = ask("config", "check", path)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert words in error


def test_a_configuration_is_shown_with_its_defaults(ask, tmp_path):
    path = tmp_path / "tumble.toml"
    path.write_text("[stream]\nqueue = 7\n")
    code, out, _ = ask("config", "show", path)
    shown = tomllib.loads(out)
    assert code == 0
    assert (shown["stream"]["queue"], shown["session"]["record"], shown["log"]["format"]) == (7, True, "text")


def test_keys_from_making_to_revoking(ask, tmp_path):
    folder = tmp_path / "keys"
    assert "made server.key, client.key" in ask("keys", "make", "--keys", folder)[1]
    key = new_pair().public.hex()
    assert ask("keys", "allow", "anna", key, "--control", "--keys", folder)[:2] == (0, "anna may watch and control\n")
    ask("keys", "trust", "tcp://scope:31002", key, "--keys", folder)
    out = ask("keys", "list", "--keys", folder)[1]
    keys = KeyFolder(folder)
    assert all(word in out for word in (keys.server().public.hex(), keys.client().public.hex(), key, "scope_31002"))
    assert keys.server().secret.hex() not in out
    assert ask("keys", "revoke", "anna", "--keys", folder)[0] == 0
    code, _, error = ask("keys", "revoke", "anna", "--keys", folder)
    assert code == 2
    assert "no client anna" in error


@pytest.mark.parametrize(
    "words", [["allow", "anna", "12"], ["allow", "../x", "00" * 32], ["trust", "scope", "00" * 32]]
)
def test_what_is_no_key_is_one_line(words, ask, tmp_path):
    code, out, error = ask("keys", *words, "--keys", tmp_path / "keys")
    assert (code, out, error.count("\n")) == (2, "", 1)


def test_orders_reach_the_newest_daemon(ask):
    orders = Orders()
    with ControlServer("tcp://127.0.0.1:0", "here", orders=orders):
        assert ask("control", "mark", "beam", "moved")[:2] == (0, "mark beam moved: passed on\n")
        assert ask("control", "pause")[0] == 0
    assert [(order.kind, order.text) for order in orders.take()] == [("mark", "beam moved"), ("pause", "")]


def test_what_is_no_order_is_told_without_asking_anybody(ask):
    code, _, error = ask("control", "halt")
    assert code == 2
    assert "there are pause, resume, stop, mark, exclude" in error
    assert "no daemon" in ask("control", "pause")[2]
