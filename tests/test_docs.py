"""The documents name only what is there: files, links, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from tumble.daemon import cli

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")


def text(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(root: Path, name: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(root, name))
    assert [target for target in targets if not (root / target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_exist(root: Path, name: str) -> None:
    named = re.findall(r"\b((?:stream|recon|daemon|dashboard|tests)/[\w/-]*(?:\.\w+)?)", text(root, name))
    assert [path for path in named if not (root / path).exists()] == []


def commands(root: Path) -> list[list[str]]:
    """Return the words of every `tumble ...` line of the README's examples."""
    lines = re.findall(r"^    (tumble .*)$", text(root, "README.md"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_readme_shows_commands(root: Path) -> None:
    assert {words[0] for words in commands(root)} >= {"run", "replay", "watch", "status", "simulate"}


def test_every_option_in_the_readme_is_understood(root: Path) -> None:
    group = typer.main.get_command(cli.app)
    unknown = []
    for name, *words in commands(root):
        command = group.commands[name]  # type: ignore[attr-defined]
        known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        unknown += [f"{name} {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    assert unknown == []
