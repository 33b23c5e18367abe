"""Key files: private, named, and never half a key."""

from __future__ import annotations

import stat

import pytest

from tumble.daemon.errors import TumbleError, UsageError
from tumble.daemon.keys import KeyFolder, default_folder, new_pair, read_key


@pytest.fixture
def keys(tmp_path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def test_secrets_are_for_the_user_only(keys):
    assert keys.server() is None
    assert keys.make() == ["server.key", "client.key"]
    for name in ("server.key", "client.key"):
        assert stat.S_IMODE((keys.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert keys.server().secret.hex() not in repr(keys.server())


def test_what_is_there_is_never_made_anew(keys):
    keys.make()
    before = keys.server(), keys.client()
    assert keys.make() == []
    assert (keys.server(), keys.client()) == before


def test_a_secret_that_others_can_read_is_refused(keys):
    keys.make()
    (keys.folder / "server.key").chmod(0o640)
    with pytest.raises(TumbleError, match="chmod 600"):
        keys.server()


@pytest.mark.parametrize("text", ["", "public zz\nsecret 00\n", "public " + "0" * 64, "\xff\xfe", "x" * 5000])
def test_a_damaged_file_is_named(text, keys):
    keys.make()
    (keys.folder / "server.key").write_text(text, encoding="latin-1")
    with pytest.raises(TumbleError, match=r"server\.key"):
        keys.server()


def test_clients_are_allowed_and_revoked(keys):
    anna, ben = new_pair().public, new_pair().public
    keys.allow("anna", anna, "control")
    keys.allow("ben", ben, "watch")
    assert {(client.name, client.right) for client in keys.clients().values()} == {
        ("anna", "control"),
        ("ben", "watch"),
    }
    keys.allow("anna", anna, "watch")  # less than before
    assert keys.clients()[anna].right == "watch"
    keys.revoke("anna")
    assert anna not in keys.clients()
    with pytest.raises(UsageError, match="allowed are ben"):
        keys.revoke("anna")


def test_one_key_has_one_name(keys):
    anna = new_pair().public
    keys.allow("anna", anna, "watch")
    with pytest.raises(UsageError, match="that of anna already"):
        keys.allow("ben", anna, "control")


def test_another_process_that_revokes_is_noticed(keys, monkeypatch):
    monkeypatch.setattr("tumble.daemon.keys.REREAD_S", -1.0)
    anna = new_pair().public
    keys.allow("anna", anna, "watch")
    assert anna in keys.clients()
    KeyFolder(keys.folder).revoke("anna")
    assert anna not in keys.clients()


def test_a_damaged_client_file_lets_nobody_in(keys):
    keys.allow("anna", new_pair().public, "watch")
    (keys.folder / "clients" / "anna.pub").write_text("public nonsense\nmay control\n")
    (keys.folder / "clients" / "eve.pub").write_text(f"public {new_pair().public.hex()}\nmay everything\n")
    assert KeyFolder(keys.folder).clients() == {}


@pytest.mark.parametrize("name", ["", "..", "../eve", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_that_could_be_paths_are_refused(name, keys):
    with pytest.raises(UsageError, match="no name"):
        keys.allow(name, new_pair().public, "watch")
    with pytest.raises(UsageError, match="no name"):
        keys.revoke(name)


def test_daemons_elsewhere_are_remembered(keys):
    key = new_pair().public
    keys.trust("tcp://scope:31002", key)
    assert keys.trusted("tcp://scope:31002") == key
    assert keys.trusted("tcp://scope:31003") is None
    assert keys.servers() == {"scope_31002": key}


@pytest.mark.parametrize("digits", ["", "12", "zz" * 32, "0" * 66])
def test_what_is_no_key(digits):
    with pytest.raises(UsageError, match="64 hexadecimal"):
        read_key(digits)


def test_keys_are_the_field_size_and_random():
    first, second = new_pair(), new_pair()
    assert first != second
    assert {len(first.public), len(first.secret)} == {32}
    assert read_key(first.public.hex()) == first.public


def test_where_keys_are(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "tumble" / "keys"
