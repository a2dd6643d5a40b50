"""An account with a provider: who we are there, and where its servers are."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringtrue.telephony.sip.auth_client import Credential
from ringtrue.telephony.sip.uri import SipUri


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a registration and calls through a trunk need to know."""

    name: str
    """Ours; shown in logs and metrics."""

    domain: str
    """Host part of the address-of-record."""

    user: str
    """User part of the address-of-record, and of our Contact."""

    auth_user: str = ""
    """User name in credentials; empty: ``user``."""

    password: str = field(default="", repr=False)
    realms: tuple[str, ...] = ()
    """Realms whose challenges are answered; none: the domain, and what the registrar names."""

    servers: tuple[SipUri, ...] = ()
    """Registrars in order of preference; none: the domain's own (RFC 3263)."""

    proxy: SipUri | None = None
    """Outbound proxy: everything goes there, with a Route that says so."""

    transport: str | None = None
    """``udp``, ``tcp`` or ``tls``; None lets the servers' URIs and DNS decide."""

    register: bool = True
    """False for trunks that know us by password or address alone."""

    expires: int = 600
    """Seconds asked for."""

    secure: bool = False
    """A ``sips:`` account: TLS all the way, and nothing else."""

    instance: str = ""
    """URN of this user agent, the same after a restart (RFC 5626 §4.1): flows are registered by it.
    Empty: registered as before that RFC."""

    @property
    def aor(self) -> SipUri:
        """Address-of-record: From of what we send on this account."""
        return SipUri(self.domain, user=self.user, scheme=self.scheme)

    @property
    def scheme(self) -> str:
        """``sip`` or ``sips``."""
        return "sips" if self.secure else "sip"

    @property
    def targets(self) -> tuple[SipUri, ...]:
        """What is looked up to reach the account, in order of preference."""
        wanted = (self.proxy,) if self.proxy is not None else self.servers
        found = wanted or (SipUri(self.domain, scheme=self.scheme),)
        if self.transport is None:
            return found
        return tuple(
            uri
            if uri.transport is not None
            else SipUri(
                uri.host,
                uri.port,
                uri.user,
                params=(*uri.params, ("transport", self.transport)),
                scheme=uri.scheme,
            )
            for uri in found
        )

    @property
    def route(self) -> str | None:
        """The Route header that leads through the outbound proxy; None without one."""
        if self.proxy is None:
            return None
        uri = self.proxy
        if uri.param("lr") is None:
            uri = SipUri(uri.host, uri.port, params=(*uri.params, ("lr", None)), scheme=uri.scheme)
        return f"<{uri}>"

    def credential(self) -> Credential:
        """What answers the account's challenges."""
        return Credential(
            self.auth_user or self.user,
            self.password,
            frozenset(self.realms or (self.domain,)),
            identity=self.user,
            learns=not self.realms,
        )
