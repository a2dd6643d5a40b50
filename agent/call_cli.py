"""``ringtrue call``: have a running server place a call."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from ringtrue.agent.cli_common import (
    DONE,
    FAILED,
    REFUSED,
    ConfigOption,
    JsonOption,
    print_json,
    run,
    server_url,
    settings_of,
)
from ringtrue.agent.problems import MEDIA_TYPE
from ringtrue.config.settings import Settings
from ringtrue.streaming.errors import RingtrueError

POLL_SECONDS: Final = 20.0
TIMEOUT: Final = httpx.Timeout(10.0, read=POLL_SECONDS + 15.0)
GIVE_UP_SECONDS: Final = 3.0
"""How long an interrupted command may take to end its call."""


class CallCommandError(RingtrueError):
    """The server could not be asked, or answered what nobody understands."""


def call(
    to: Annotated[str, typer.Argument(help="tel:+15551234567, or sip:alice@pbx.example.com.")],
    agent: Annotated[str, typer.Option(help="Who calls.")],
    caller: Annotated[
        str | None, typer.Option("--from", help="A number or URI the tenant may call from.")
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the agent's variables; repeat it.")
    ] = None,
    ring_seconds: Annotated[
        float | None, typer.Option(min=5, max=300, help="How long it may ring.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; interrupting hangs up.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="The server's web address; without it, as the settings say.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RINGTRUE_API_KEY",
            show_default=False,
            help="An API key with the scope calls:place. Better in the variable than in a command.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds nothing but the API key.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the running server call somebody, with an agent that speaks once they answer.

    Ends with 0 once the call is placed (with --wait: was answered), with 1 where it is refused
    or not answered, with 2 where the server can't be asked.
    """
    settings = settings_of(config, quiet=True)
    order: dict[str, Any] = {"to": to, "agent": agent, "variables": _variables(var or ())}
    if caller is not None:
        order["from"] = caller
    if ring_seconds is not None:
        order["ring_seconds"] = ring_seconds
    base = (url or _own_url(settings)).rstrip("/")
    key = _key(api_key, api_key_file)
    run(_main(base, key, order, wait=wait, as_json=as_json))


async def _main(base: str, key: str, order: Mapping[str, Any], *, wait: bool, as_json: bool) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=TIMEOUT) as client:
        try:
            answer = await client.post("/v1/calls", json=order)
            if answer.status_code != 202:
                return _refused(answer, as_json=as_json)
            placed = _body(answer)
            if wait:
                placed = await _until_over(client, placed, quiet=as_json)
        except httpx.HTTPError as error:
            raise CallCommandError(f"{base} can't be asked: {type(error).__name__}") from None
    if as_json:
        print_json(placed)
    else:
        typer.echo(_line(placed))
    return DONE if not wait or placed.get("outcome") == "answered" else REFUSED


async def _until_over(
    client: httpx.AsyncClient, placed: dict[str, Any], *, quiet: bool
) -> dict[str, Any]:
    path = f"/v1/calls/{placed['id']}"
    try:
        while placed["state"] not in ("ended", "failed"):
            if not quiet:
                typer.echo(_line(placed), err=True)
            query = {"after": placed["version"], "wait": POLL_SECONDS}
            answer = await client.get(path, params=query)
            if answer.status_code != 200:
                raise CallCommandError(f"the server answers {answer.status_code}")
            placed = _body(answer)
    except BaseException:  # interrupted: whoever waits for the call wants it no more
        with contextlib.suppress(httpx.HTTPError):
            await client.delete(path, timeout=GIVE_UP_SECONDS)
        raise
    return placed


def _refused(answer: httpx.Response, *, as_json: bool) -> int:
    try:
        if answer.headers.get("content-type") != MEDIA_TYPE:
            raise ValueError("no problem of the interface")
        problem = answer.json()
        detail = problem["detail"]
    except (ValueError, KeyError, TypeError):
        raise CallCommandError(
            f"the server answers {answer.status_code} and no more; is it Ringtrue's, and has it "
            "voices enabled?"
        ) from None
    if as_json:
        print_json(problem)
    else:
        reason = problem.get("reason")
        typer.secho(f"refused{f' ({reason})' if reason else ''}: {detail}", err=True, fg="red")
        for error in problem.get("errors", ()):
            typer.echo(f"  {error.get('field')}: allowed: {error.get('allowed')}", err=True)
    return FAILED if answer.status_code in (401, 500) else REFUSED


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        raise CallCommandError("the server's answer is no JSON") from None
    if not isinstance(body, dict) or not {"id", "state", "version"} <= body.keys():
        raise CallCommandError("the server's answer is no call")
    return body


def _line(placed: Mapping[str, Any]) -> str:
    parts = [str(placed["id"]), str(placed["state"])]
    if placed["state"] == "failed":
        parts.append(str(placed.get("outcome")))
        if placed.get("sip_status"):
            parts.append(f"({placed['sip_status']} {placed.get('sip_reason') or ''}".rstrip() + ")")
    elif placed["state"] == "ended":
        parts.append(str(placed.get("ended")))
    return "  ".join(parts)


def _variables(given: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or name in values:
            raise typer.BadParameter(f"--var {item!r}: NAME=VALUE, each name once")
        values[name] = value
    return values


def _own_url(settings: Settings) -> str:
    url = server_url(settings)
    if url is None:
        raise typer.BadParameter("the settings don't say where the server listens; give --url")
    return url


def _key(given: str | None, file: Path | None) -> str:
    if file is not None:
        given = file.read_text(encoding="utf-8").strip()
    if not given:
        raise typer.BadParameter(
            "an API key is needed: RINGTRUE_API_KEY or --api-key-file; `ringtrue keys create "
            "--scope calls:place --label …` makes one"
        )
    if not given.isascii() or not given.isprintable() or " " in given:
        raise typer.BadParameter("the API key is not one line of ASCII")
    return given
