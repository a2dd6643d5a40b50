"""Settings of SIP signalling: accounts with providers, who may call, and TLS."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from ringtrue.config.section import Seconds, Section, split_list

SERVER_URI: Final = re.compile(
    r"(?:sips?:)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?(?:;[A-Za-z0-9=;._-]+)?"
)
HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
SIP_USER: Final = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/%]+")

AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""Lower case, so that an environment variable can name it."""

Algorithm = Literal["SHA-512-256", "SHA-256", "MD5"]


def _server(value: str) -> str:
    if SERVER_URI.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not like sip.example.com or sip:192.0.2.1:5060")
    return value


class _Password(Section):
    """A password, given here, by the environment, or in a file of its own."""

    password: SecretStr | None = None
    password_file: Path | None = None
    """A file that holds nothing else; a line end after it is not part of it."""

    @model_validator(mode="after")
    def _one_password(self) -> _Password:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; allowed: one of them")
        return self


class RegistrationSettings(_Password):
    """An account with a provider."""

    domain: str
    """Host part of the account's address: ``sip:USER@DOMAIN``."""

    user: str
    auth_user: str | None = None
    """User name in credentials, where it differs from ``user``."""

    realms: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Realms the password is for; none: the domain, and what the registrar itself names."""

    servers: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Registrars in order of preference; none: what DNS names for the domain (RFC 3263)."""

    proxy: str | None = None
    """Outbound proxy that everything for this account goes through."""

    transport: Literal["udp", "tcp", "tls"] | None = None
    """None: what ``servers`` or DNS say, else UDP."""

    registers: bool = True
    """False for trunks that send calls to a fixed address: the password only answers
    challenges to our own calls."""

    expires_seconds: Annotated[int, Field(ge=60, le=86_400)] = 600
    """How long a registration is asked to last; it is renewed well before."""

    outbound: bool = False
    """Register the flow itself (RFC 5626): calls come by it, and over UDP a registrar that agrees
    is asked by STUN whether it lives."""

    secure: bool = False
    """Use ``sips:`` addresses: TLS on every hop."""

    @field_validator("domain")
    @classmethod
    def _host(cls, value: str) -> str:
        if HOST.fullmatch(value) is None:
            raise ValueError("not a host name or address, e.g. sip.example.com")
        return value.strip("[]")

    @field_validator("user", "auth_user")
    @classmethod
    def _user(cls, value: str | None) -> str | None:
        if value is not None and SIP_USER.fullmatch(value) is None:
            raise ValueError("not the user part of a SIP address, e.g. 15551234567 or alice")
        return value

    @field_validator("servers")
    @classmethod
    def _servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_server, value))

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        return None if value is None else _server(value)

    @model_validator(mode="after")
    def _over_tls(self) -> RegistrationSettings:
        if self.secure and self.transport not in (None, "tls"):
            raise ValueError(f"secure asks for TLS, but transport is {self.transport!r}")
        return self


class CallerSettings(_Password):
    """A caller who is asked for a password."""


class CallersSettings(Section):
    """Who may call in. Calls from our own registrars' addresses always may."""

    required: bool = False
    """Ask callers who they are; False lets everybody in."""

    realm: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """What phones show when they ask for the password; None: ``server.name``."""

    users: dict[str, CallerSettings] = {}
    """User name → password."""

    trusted: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Addresses and networks whose calls need no password: carriers, PBXs."""

    algorithms: Annotated[
        tuple[Algorithm, ...], BeforeValidator(split_list), Field(min_length=1)
    ] = ("MD5",)
    """Offered to callers, in this order (RFC 8760). Phones that know only MD5 give up where
    another is offered beside it: add the stronger ones where all of yours know them."""

    nonce_seconds: Seconds = 300
    """How long the answer to a challenge is good."""

    calls_per_second: Annotated[float, Field(gt=0, le=10_000)] = 10
    """New calls that one source may begin each second, once it has begun ``calls_at_once``.
    Trusted ones are not counted."""

    calls_at_once: Annotated[int, Field(ge=1, le=100_000)] = 50

    replaces: bool = True
    """Whether somebody may take over a call (Replaces): who has shown who they are, and else only
    who signals from the same host as the call's far end."""

    @field_validator("users")
    @classmethod
    def _with_passwords(cls, value: dict[str, CallerSettings]) -> dict[str, CallerSettings]:
        for name, user in value.items():
            if user.password is None and user.password_file is None:
                raise ValueError(f"{name!r} has neither password nor password_file")
        return value

    @field_validator("trusted")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(f"{text!r} is not like 192.0.2.10 or 192.0.2.0/24") from None
        return value

    @model_validator(mode="after")
    def _asked(self) -> CallersSettings:
        if not self.required and (self.users or self.trusted):
            raise ValueError(
                "users or trusted are set, but required is false: everybody may call; set "
                "required: true"
            )
        return self


class TlsSettings(Section):
    """SIP over TLS 1.2 or newer. All files are PEM."""

    enabled: bool = False
    """Listen for TLS. Connecting to TLS servers needs no listening."""

    port: Annotated[int, Field(ge=0, le=65535)] = 5061
    certificate: Path | None = None
    """Ours with its chain."""

    key: Path | None = None
    """None: in the same file."""

    client_ca: Path | None = None
    """Authorities that must have signed what far ends show; None: they need show nothing."""

    ca: Path | None = None
    """Authorities of the servers we connect to; None: the system's."""

    client_certificate: Path | None = None
    """What we show servers that ask."""

    client_key: Path | None = None
    """None: in the same file."""

    @model_validator(mode="after")
    def _listening(self) -> TlsSettings:
        if self.enabled and self.certificate is None:
            raise ValueError("enabled, but certificate is not set: the path of a PEM file")
        return self
