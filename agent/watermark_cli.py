"""``ringtrue watermark``: find marks in recordings, and look after the keys that make them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ringtrue.agent.cli_common import (
    DONE,
    REFUSED,
    ConfigOption,
    JsonOption,
    print_json,
    settings_of,
)
from ringtrue.config.settings import Settings

if TYPE_CHECKING:
    from ringtrue.agent.watermark_sessions import Session, Sessions
    from ringtrue.voices.watermark.detector import MarkOrDetectionKey
    from ringtrue.voices.watermark.keyring import MarkKeys
    from ringtrue.voices.watermark.report import Report, TokenReport

watermark = typer.Typer(help="Marks in what was spoken, and their keys.", no_args_is_help=True)
keys = typer.Typer(help="The keys that mark and find marks.", invoke_without_command=True)
watermark.add_typer(keys, name="keys")

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60
_FULL = 30.0
"""log10 of the evidence that fills the picture."""

KeyIdArgument = Annotated[
    str | None, typer.Argument(help="A key's id; default: the one that marks.")
]


@watermark.command()
def detect(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Recordings of any kind.")
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", exists=True, dir_okay=False, help="A watermark key file."),
    ] = None,
    detection_key: Annotated[
        list[str] | None,
        typer.Option("--detection-key", help="A published detection key, rtdk1_…; repeat it."),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Try speeds up to 3 % off too; ten times slower.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether recordings are this server's speech, how surely, and which calls' they are.

    Exit code 0 if a mark was found in any of them, 1 if in none. Without a key option the keys of
    this installation are used.
    """
    settings = settings_of(config, quiet=True)
    from ringtrue.agent.watermark_sessions import sessions_of
    from ringtrue.voices.watermark.errors import AudioFileError
    from ringtrue.voices.watermark.examination import examine

    wanted = _keys(settings, key, detection_key or [])
    sessions = sessions_of(settings)
    results: list[dict[str, Any]] = []
    found = False
    with _progress() as progress:
        for path in files:
            task = progress.add_task(path.name, total=1.0)
            try:
                report = examine(
                    path, wanted, thorough=thorough, on_progress=_Shown(progress, task)
                )
            except AudioFileError as error:
                raise AudioFileError(f"{path}: {error}") from None
            progress.remove_task(task)
            found = found or report.found
            known = find_all(sessions, report)
            if as_json:
                results.append({"file": str(path)} | described(report, known))
            else:
                _show(Console(), path, report, known)
    if as_json:
        print_json({"files": results})
    raise typer.Exit(DONE if found else REFUSED)


@keys.callback()
def list_keys(
    context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the keys' ids; the first one marks."""
    if context.invoked_subcommand is not None:
        return
    held = _held(settings_of(config, quiet=True))
    if as_json:
        print_json({"marks": held.current.id, "keys": list(held.keys)})
        return
    table = Table("id", "use")
    for key_id in held.keys:
        use = "marks, finds and reads" if key_id == held.current.id else "finds and reads"
        table.add_row(key_id, use)
    Console().print(table)


@keys.command()
def export(
    key: KeyIdArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print the detection key, which may be published: it finds marks and reads nothing.

    Who has it can tell marked speech from other speech, and could take pains to forge or spoil
    the sign that a mark is there; no token can be forged or read with it.
    """
    held = _held(settings_of(config, quiet=True))
    from ringtrue.voices.watermark.keyring import published

    if key is not None and key not in held.keys:
        raise typer.BadParameter(f"no key {key}; there are: {', '.join(held.keys)}")
    chosen = held.keys[key] if key is not None else held.current
    text = published(chosen.detection)
    if as_json:
        print_json({"id": chosen.id, "detection_key": text})
    else:
        typer.echo(text)


@keys.command()
def rotate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make a new key, which marks once servers are restarted; old ones go on finding marks."""
    settings = settings_of(config, quiet=True)
    from ringtrue.voices.library_config import mark_key_file
    from ringtrue.voices.watermark.keyring import rotate_mark_keys

    _held(settings)
    held = rotate_mark_keys(mark_key_file(settings.voices))
    if as_json:
        print_json({"marks": held.current.id, "keys": list(held.keys)})
    else:
        typer.echo(f"Key {held.current.id} marks from the next start of each server on.")
        typer.echo("Back the key file up: without it no mark can be proved.", err=True)


def described(report: Report, known: dict[str, Session | None]) -> dict[str, Any]:
    """A report with what is known of its sessions, for JSON."""
    return report.to_dict() | {
        "sessions": [known[token.id] for token in report.tokens if known.get(token.id) is not None]
    }


def _held(settings: Settings) -> MarkKeys:
    """This installation's keys. Raises KeyMaterialError where there are none."""
    from ringtrue.voices.library_config import mark_key_file
    from ringtrue.voices.watermark.keyring import load_mark_keys

    return load_mark_keys(mark_key_file(settings.voices))


def _keys(settings: Settings, file: Path | None, published: list[str]) -> list[MarkOrDetectionKey]:
    from ringtrue.voices.watermark.errors import WatermarkError
    from ringtrue.voices.watermark.keyring import load_mark_keys, read_published

    try:
        found: list[MarkOrDetectionKey] = [read_published(text) for text in published]
    except WatermarkError as error:
        raise typer.BadParameter(str(error), param_hint="--detection-key") from None
    if file is not None:
        found += load_mark_keys(file).keys.values()
    return found or list(_held(settings).keys.values())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Shown:
    """Shows how far a search is."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, done: float | None) -> None:
        if done is None:
            self._progress.update(self._task, total=None)
        else:
            self._progress.update(self._task, completed=done)


def _show(console: Console, path: Path, report: Report, known: dict[str, Session | None]) -> None:
    verdict = "[bold red]synthetic: made here[/]" if report.found else "[bold]no finding[/]"
    console.print(f"[bold]{path.name}[/]: {verdict}")
    console.print(
        f"  {report.seconds:.1f} s, {report.codec} at {report.rate} Hz; false-alarm probability "
        f"{_bound(report.false_alarm)} (a mark counts from {report.threshold:g} on)"
    )
    for number, channel in enumerate(report.channels, 1):
        if len(report.channels) > 1:
            console.print(f"  channel {number}: {_bound(channel.false_alarm)}")
        console.print("  │" + _picture(channel.curve) + "│")
        for part in channel.stretches:
            odd = f", speed {part.speed:.4f}" if abs(part.speed - 1.0) > 5e-4 else ""
            odd += ", upside down" if part.inverted else ""
            says = "token not readable" if part.token is None else f"session {part.token.session}"
            console.print(f"  {part.start:8.2f} – {part.end:.2f} s: key {part.key}, {says}{odd}")
    for token in report.tokens:
        console.print("  " + _told(token, known.get(token.id)))
    if not report.found:
        console.print("  That is no proof that a person spoke.", style="dim")


def _told(token: TokenReport, session: Session | None) -> str:
    told = f"session {token.session} began {token.time}, MAC valid"
    if session is None:
        return f"{told}; the audit log here doesn't know it"
    voices = ", ".join(session.voices) or "none named"
    return f"{told}: call {session.call} of {session.tenant or 'no tenant'}, voice {voices}"


def _bound(false_alarm: float) -> str:
    return "1" if false_alarm >= 1.0 else f"at most {false_alarm:.0e}"


def _picture(curve: tuple[float, ...]) -> str:
    """The evidence over time in one line."""
    if not curve:
        return " " * _WIDTH
    edges = [n * len(curve) // _WIDTH for n in range(_WIDTH + 1)]
    tops = (max(curve[a : max(b, a + 1)]) for a, b in zip(edges, edges[1:], strict=False))
    last = len(_BARS) - 1
    return "".join(_BARS[min(last, round(top / _FULL * last))] for top in tops)


def find_all(sessions: Sessions, report: Report) -> dict[str, Session | None]:
    """What is known of each of a report's sessions, by mark. Blocking."""
    return {token.id: sessions.find(token.id) for token in report.tokens}
