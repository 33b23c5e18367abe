"""The commands `tumble control`, `tumble keys` and `tumble config`: orders, who may give them, and configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from .config import Settings

KeysOption = Annotated[Path | None, typer.Option("--keys", help="Folder of the keys (default: ~/.config/tumble/keys).")]

FileArgument = Annotated[Path, typer.Argument(help="A configuration, TOML.")]

config_app = typer.Typer(help="Check and show configurations.", no_args_is_help=True)
keys_app = typer.Typer(help="Who may watch and control daemons over the network.", no_args_is_help=True)


def control(
    order: Annotated[list[str], typer.Argument(help="pause, resume, stop, mark WORDS, or exclude P001.")],
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Control socket of the daemon (default: the newest here).")
    ] = None,
    keys: KeysOption = None,
) -> int:
    """Give a running daemon an order.

    pause: frames are received and recorded, but not analysed. exclude: no more work on this particle. mark: a note in
    the log and in the session. stop: finish what was received, as Ctrl-C does.
    """
    from .keys import KeyFolder
    from .orders import parse
    from .viewer import give_order

    words = " ".join(order)
    parse(words)  # what is no order is told without asking anybody
    typer.echo(give_order(words, endpoint, keys=KeyFolder(keys)))
    return 0


@keys_app.command("make")
def make(keys: KeysOption = None) -> int:
    """Make the keys of this machine and user; those that are there stay."""
    from .keys import KeyFolder

    folder = KeyFolder(keys)
    made = folder.make()
    typer.echo(f"made {', '.join(made)} in {folder.folder}" if made else f"{folder.folder} has keys; nothing was made")
    return show(keys)


@keys_app.command("list")
def show(keys: KeysOption = None) -> int:
    """Show the public keys, and who is allowed what."""
    from .keys import KeyFolder

    folder = KeyFolder(keys)
    for name, pair in (("this machine's daemons", folder.server()), ("your own", folder.client())):
        typer.echo(f"{name:24s} {pair.public.hex() if pair else 'none: tumble keys make'}")
    for key, client in sorted(folder.clients().items(), key=lambda item: item[1].name):
        typer.echo(f"{client.name:24s} {key.hex()}  may {'watch' if client.right == 'watch' else 'watch and control'}")
    for server, key in folder.servers().items():
        typer.echo(f"{server:24s} {key.hex()}  a daemon elsewhere")
    return 0


@keys_app.command("allow")
def allow(
    name: Annotated[str, typer.Argument(help="What you call this client.")],
    key: Annotated[str, typer.Argument(help="Its public key: 'your own' of its `tumble keys list`.")],
    control: Annotated[bool, typer.Option("--control", help="It may give orders too, not only watch.")] = False,
    keys: KeysOption = None,
) -> int:
    """Let a client in."""
    from .keys import KeyFolder, read_key

    KeyFolder(keys).allow(name, read_key(key), "control" if control else "watch")
    typer.echo(f"{name} may {'watch and control' if control else 'watch'}")
    return 0


@keys_app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="The client.")], keys: KeysOption = None) -> int:
    """Let a client in no more, also where it is connected already."""
    from .keys import KeyFolder

    KeyFolder(keys).revoke(name)
    typer.echo(f"{name} may nothing any more")
    return 0


@keys_app.command("trust")
def trust(
    endpoint: Annotated[str, typer.Argument(help="tcp://host:port of a daemon elsewhere.")],
    key: Annotated[str, typer.Argument(help="Its public key: 'this machine's daemons' of `tumble keys list` there.")],
    keys: KeysOption = None,
) -> int:
    """Remember the key of a daemon on another machine."""
    from .keys import KeyFolder, read_key

    if not endpoint.startswith("tcp://"):
        raise UsageError(f"{endpoint!r} is not an address: give tcp://host:port")
    KeyFolder(keys).trust(endpoint, read_key(key))
    typer.echo(f"{endpoint} is known; `tumble watch {endpoint}` asks it")
    return 0


@config_app.command("check")
def check(file: FileArgument) -> int:
    """Say whether `tumble run --config` would accept a file."""
    _checked(file)
    typer.echo(f"{file} is a configuration")
    return 0


@config_app.command("show")
def show_configuration(
    file: Annotated[Path | None, typer.Argument(help="A configuration, TOML (default: none).")] = None,
) -> int:
    """Show everything that `tumble run --config` would go by, with the defaults, as a configuration."""
    from .config import as_toml

    for line in as_toml(_checked(file)):
        typer.echo(line)
    return 0


def _checked(file: Path | None) -> Settings:
    from ..recon.frontend.options import FrontEndOptions
    from ..recon.lens import Lens
    from .config import RUN_DEFAULTS, check_source, load, options_from
    from .control import check_sockets

    settings = load(file, defaults=RUN_DEFAULTS)
    options_from(FrontEndOptions, settings.frontend, "frontend")
    options_from(Lens, settings.optics.model_dump(), "optics")
    if settings.stream.source:
        check_source(settings.stream.source)
    check_sockets(settings)
    return settings
