"""What the SIP section of the settings comes to: accounts, who may call, TLS."""

from __future__ import annotations

import socket
import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.config.sip_settings import RegistrationSettings
from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.auth_server import AuthPolicy, networks
from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.tls import client_context, server_context
from ringtrue.telephony.sip.uri import SipUri, parse_uri

MAX_PASSWORD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Signalling:
    """What an endpoint is made with, as its constructor names it."""

    tls: TlsListener | None
    tls_client: ssl.SSLContext
    auth: AuthPolicy | None
    call_rate: tuple[float, int]
    takeovers: bool
    accounts: tuple[Account, ...]


def signalling_of(settings: Settings) -> Signalling | None:
    """All of it; None where SIP is off. Raises :class:`ConfigError` naming what can't be used."""
    if not settings.sip.enabled:
        return None
    callers = settings.sip.callers
    return Signalling(
        tls=tls_listener(settings),
        tls_client=tls_client(settings),
        auth=auth_policy(settings),
        call_rate=(callers.calls_per_second, callers.calls_at_once),
        takeovers=callers.replaces,
        accounts=accounts_of(settings),
    )


def accounts_of(settings: Settings) -> tuple[Account, ...]:
    """The accounts to register. Raises :class:`ConfigError` naming the setting at fault."""
    return tuple(
        _account(name, wanted) for name, wanted in sorted(settings.sip.registrations.items())
    )


def auth_policy(settings: Settings) -> AuthPolicy | None:
    """Who may call; None where everybody may. Raises :class:`ConfigError`."""
    callers = settings.sip.callers
    if not callers.required:
        return None
    users = {
        name: _password(f"sip.callers.users.{name}", user.password, user.password_file)
        for name, user in callers.users.items()
    }
    return AuthPolicy(
        realm=callers.realm or settings.server.name,
        users=users,
        trusted=networks(callers.trusted),
        algorithms=callers.algorithms,
        nonce_lifetime=callers.nonce_seconds,
    )


def tls_listener(settings: Settings) -> TlsListener | None:
    """What TLS is listened for with; None where it isn't. Raises :class:`ConfigError`."""
    tls = settings.sip.tls
    if not tls.enabled or tls.certificate is None:
        return None
    try:
        context = server_context(tls.certificate, tls.key, client_ca=tls.client_ca)
    except SipError as error:
        raise ConfigError(f"sip.tls: {error}") from None
    return TlsListener(context, tls.port)


def tls_client(settings: Settings) -> ssl.SSLContext:
    """What connects to TLS servers. Raises :class:`ConfigError`."""
    tls = settings.sip.tls
    try:
        return client_context(ca=tls.ca, certificate=tls.client_certificate, key=tls.client_key)
    except SipError as error:
        raise ConfigError(f"sip.tls: {error}") from None


def _account(name: str, wanted: RegistrationSettings) -> Account:
    key = f"sip.registrations.{name}"
    proxy = wanted.proxy
    return Account(
        name=name,
        domain=wanted.domain,
        user=wanted.user,
        auth_user=wanted.auth_user or "",
        password=_password(key, wanted.password, wanted.password_file),
        realms=wanted.realms,
        servers=tuple(_server(f"{key}.servers", text, wanted.secure) for text in wanted.servers),
        proxy=None if proxy is None else _server(f"{key}.proxy", proxy, wanted.secure),
        transport=wanted.transport,
        register=wanted.registers,
        expires=wanted.expires_seconds,
        instance=_instance(name, wanted) if wanted.outbound else "",
        secure=wanted.secure,
    )


def _instance(name: str, wanted: RegistrationSettings) -> str:
    """Who registers ``wanted``, the same on this machine at every start (RFC 5626 §4.1)."""
    place = f"{socket.gethostname()}/{name}/{wanted.user}@{wanted.domain}"
    return uuid.uuid5(uuid.NAMESPACE_URL, place).urn


def _server(key: str, text: str, secure: bool) -> SipUri:
    scheme = "sips:" if secure else "sip:"
    whole = text if text.startswith(("sip:", "sips:")) else scheme + text
    try:
        uri = parse_uri(whole)
    except SipError as error:
        raise ConfigError(f"{key} is {text!r}: {error}") from None
    if not isinstance(uri, SipUri) or uri.transport not in (None, "udp", "tcp", "tls"):
        raise ConfigError(f"{key} is {text!r}; its transport must be udp, tcp or tls")
    return uri


def _password(key: str, given: SecretStr | None, file: Path | None) -> str:
    """The password; empty where there is none."""
    if given is not None:
        return given.get_secret_value()
    if file is None:
        return ""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}.password_file: can't read {file}: {error.strerror}") from None
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(data) > MAX_PASSWORD_BYTES or "\n" in text:
        raise ConfigError(f"{key}.password_file: {file} does not hold one password and no more")
    return text
