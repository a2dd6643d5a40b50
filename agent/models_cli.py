"""``ringtrue models``: fetch, list, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ringtrue.agent.cli_common import ConfigOption, JsonOption, print_json
from ringtrue.agent.hub import DEFAULT_HUB, Hub
from ringtrue.agent.models import (
    chosen,
    described,
    fetch,
    installed,
    read_pins,
    variants,
)
from ringtrue.config.settings import load_settings
from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.library_config import library_dir
from ringtrue.voices.pocket.files import open_directory, verify

models = typer.Typer(help="Models of neural voices.", no_args_is_help=True)

DirOption = Annotated[
    Path | None, typer.Option("--dir", help="Where models are kept (default: beside the voices).")
]


class _Bars:
    """Progress on standard error; standard output stays for results."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self._task: Any = None

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def file(self, name: str) -> None:
        self._task = self._progress.add_task(name, total=None)

    def bytes(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


def _models(config: Path | None, directory: Path | None) -> Path:
    if directory is not None:
        return directory
    return library_dir(load_settings(config).voices) / "models"


@models.command("fetch")
def fetch_command(
    model: Annotated[str, typer.Argument(help="pocket, or pocket:VARIANT.")] = "pocket",
    config: ConfigOption = None,
    directory: DirOption = None,
    hub: Annotated[str, typer.Option(envvar="HF_ENDPOINT", help="The hub to ask.")] = DEFAULT_HUB,
    token: Annotated[
        str | None,
        typer.Option(envvar="HF_TOKEN", help="Where the hub asks for terms to be accepted."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="manifest.json whose SHA-256 the files must have.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Get a model from the hub; goes on where an earlier fetch was cut off."""
    variant = chosen(model)
    pins = read_pins(manifest) if manifest is not None else None
    client = Hub(hub, token=token or None)
    try:
        with _Bars() as bars:
            found = fetch(variant, _models(config, directory), client, bars, pins)
    finally:
        client.close()
    report = described(found.directory)
    if as_json:
        print_json(report)
        return
    typer.echo(f"{found.name} is in {found.directory}; to speak with it, add to the settings:\n")
    typer.echo(f"voices:\n  pocket:\n    model: {found.directory}")


@models.command("list")
def list_command(
    config: ConfigOption = None, directory: DirOption = None, as_json: JsonOption = False
) -> None:
    """Say which models are here and which can be fetched."""
    here = [described(path) for path in installed(_models(config, directory))]
    try:
        available = [f"pocket:{name}" for name in variants()]
    except EngineUnavailableError:
        available = []
    if as_json:
        print_json({"here": here, "available": available})
        return
    for each in here:
        size = f"{each['bytes'] / 1e6:8.1f} MB" if "bytes" in each else each["fault"]
        typer.echo(f"{each['name']:28} {size}  {each['directory']}")
    typer.echo(f"to be fetched: {', '.join(available) or 'none (pocket-tts is not installed)'}")


@models.command("verify")
def verify_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or directories; none: all that are here.")
    ] = None,
    config: ConfigOption = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every file again and compare it with its manifest; exit code 1 where one differs."""
    kept = _models(config, directory)
    places = [_place(kept, name) for name in names] if names else installed(kept)
    faults: dict[str, list[str]] = {}
    for place in places:
        try:
            faults[str(place)] = verify(open_directory(place))
        except EngineUnavailableError as error:
            faults[str(place)] = [str(error)]
    if as_json:
        print_json({"ok": not any(faults.values()), "models": faults})
    else:
        for name, wrong in faults.items():
            typer.echo(f"{name}: {'; '.join(wrong) or 'whole'}")
    if any(faults.values()):
        raise typer.Exit(1)


def _place(kept: Path, name: str) -> Path:
    inside = kept / name
    return inside if inside.is_dir() else Path(name)
