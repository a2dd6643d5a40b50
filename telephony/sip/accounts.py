"""The accounts of one user agent, by their handles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ringtrue.telephony.sip.account import Account
from ringtrue.telephony.sip.errors import SipError
from ringtrue.telephony.sip.registration import (
    Registration,
    RegistrationContext,
    RegistrationState,
)
from ringtrue.telephony.sip.transport import Hop

_USABLE: Final = (RegistrationState.REGISTERED, RegistrationState.STATIC)


class Accounts:
    """Registrations; there are as many as are configured."""

    def __init__(self, context: RegistrationContext) -> None:
        """Start without any."""
        self._context = context
        self._held: dict[str, Registration] = {}

    def __iter__(self) -> Iterator[Registration]:
        """In the order they were added."""
        return iter(self._held.values())

    def add(self, account: Account, now: float) -> Registration:
        """Register ``account`` and keep it registered."""
        registration = Registration(self._context, account)
        self._held[registration.handle] = registration
        registration.start(now)
        return registration

    def named(self, name: str) -> Registration | None:
        """The account configured under ``name``; None where there is none."""
        return next((held for held in self if held.account.name == name), None)

    def serves(self, host: str) -> bool:
        """Whether ``host`` is one of an account's own servers."""
        return any(host in held.hosts for held in self)

    def ready(self, name: str) -> Registration:
        """The account called ``name``, to place a call on.

        Raises :class:`SipError` where there is none, or no server of it can be had now.
        """
        held = self.named(name)
        if held is None:
            known = ", ".join(held.account.name for held in self) or "none"
            raise SipError(f"no SIP account {name!r}; accounts: {known}")
        if held.hop is None or held.state not in _USABLE:
            raise SipError(f"SIP account {name!r} is {held.state}: {held.detail}")
        return held

    def ways(self, name: str, now: float) -> list[Hop]:
        """The servers to try for a call on the account ``name``, in order; there is one at least.

        Those of a static account that were out of service of late come last. Raises as
        :meth:`ready`.
        """
        held = self.ready(name)
        if held.state is RegistrationState.STATIC:
            return self._context.core.resting.ordered(held.ways, now)
        return held.ways

    def resolved(self, handle: str, hops: Sequence[Hop], now: float) -> None:
        """The answer to a ``LookUp`` event."""
        held = self._held.get(handle)
        if held is not None:
            held.resolved(hops, now)

    def end(self, now: float) -> None:
        """Take every binding back."""
        for held in self:
            held.end(now)

    @property
    def ended(self) -> bool:
        """Whether no account is registered or about to be."""
        return all(held.state is RegistrationState.ENDED for held in self)

    def flow_failed(self, hop: Hop, now: float) -> None:
        """The stream to ``hop`` is gone, or datagrams to it can't be sent."""
        for held in self:
            held.flow_failed(hop, now)
