"""``ringtrue keys``: the API keys of the HTTP interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from ringtrue.agent.cli_common import DONE, ConfigOption, JsonOption, print_json, run, settings_of
from ringtrue.config.settings import Settings
from ringtrue.voices.store.api_keys import ApiKey, ApiKeyStore, ApiScope

if TYPE_CHECKING:
    from ringtrue.agent.audit.log import AuditLog

keys = typer.Typer(help="API keys of the HTTP interface.", no_args_is_help=True)

SCOPES = ", ".join(scope.value for scope in ApiScope)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[ApiKeyStore, AuditLog]]:
    from ringtrue.agent.audit.opening import open_audit
    from ringtrue.voices.library import open_library
    from ringtrue.voices.library_config import library_config

    async with (
        open_audit(settings) as audit,
        open_library(library_config(settings.voices), {}) as library,
    ):
        yield library.store.api_keys, audit


def _record(audit: AuditLog, key: ApiKey, what: str) -> None:
    from ringtrue.agent.api_keys import asker
    from ringtrue.agent.audit.entries import Event, Kind

    scopes = ", ".join(sorted(scope.value for scope in key.scopes))
    detail = {"what": what, "key": asker(key), "scopes": scopes}
    audit.record(Event(Kind.API_KEY, tenant=key.tenant, requester="command line", detail=detail))


@keys.command()
def create(
    label: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may do; repeat it. One of: {SCOPES}.")],
    tenant: Annotated[str, typer.Option(help="Whose voices it opens.")] = "default",
    agent: Annotated[
        str, typer.Option(help="The agent it speaks as, where a consent names agents.")
    ] = "api",
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650)] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    settings = settings_of(config, quiet=True)

    async def main() -> int:
        from ringtrue.voices.library import utc_now

        now = utc_now()
        expires = None if expires_days is None else now + timedelta(expires_days)
        async with _opened(settings) as (store, audit):
            try:
                made = await store.create(
                    tenant, label=label, scopes=scope, now=now, expires=expires, agent=agent
                )
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None
            _record(audit, made.key, "made")
        if as_json:
            print_json(described(made.key, now) | {"token": made.token})
        else:
            typer.echo(f"Key {made.key.id} of tenant {tenant}, shown only now:", err=True)
            typer.echo(made.token)
        return DONE

    run(main())


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys, revoked ones too."""
    settings = settings_of(config, quiet=True)

    async def main() -> int:
        from ringtrue.voices.library import utc_now

        async with _opened(settings) as (store, _):
            found = [described(key, utc_now()) for key in await store.list(tenant)]
        if as_json:
            print_json({"keys": found})
            return DONE
        whole = Column("id", no_wrap=True)  # what revoking asks for
        table = Table(whole, "tenant", "label", "scopes", "agent", "state", "created")
        for item in found:
            created = f"{item['created_at']:%Y-%m-%d}"
            scopes = " ".join(item["scopes"])
            first = (item["id"], item["tenant"], item["label"], scopes)
            table.add_row(*first, item["agent"], item["state"], created)
        Console().print(table)
        return DONE

    run(main())


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key useless, from the next request on."""
    settings = settings_of(config, quiet=True)

    async def main() -> int:
        from ringtrue.voices.library import utc_now

        async with _opened(settings) as (store, audit):
            revoked = await store.revoke(key, utc_now())
            _record(audit, revoked, "revoked")
        if as_json:
            print_json(described(revoked, utc_now()))
        else:
            typer.echo(f"Key {revoked.id} is revoked.")
        return DONE

    run(main())


def described(key: ApiKey, now: datetime) -> dict[str, Any]:
    """A key for people and programs."""
    expired = key.expires_at is not None and key.expires_at <= now
    state = "revoked" if key.revoked_at else "expired" if expired else "live"
    return {
        "id": key.id,
        "tenant": key.tenant,
        "label": key.label,
        "scopes": sorted(scope.value for scope in key.scopes),
        "agent": key.agent,
        "state": state,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
