"""Settings of calls from browsers: who may place them, and how their audio finds its way."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from ringtrue.config.section import Seconds, Section, split_list


class IceServer(Section):
    """One STUN or TURN server (RFC 8445)."""

    urls: Annotated[tuple[str, ...], BeforeValidator(split_list), Field(min_length=1)]
    username: str | None = None
    credential: SecretStr | None = None

    @field_validator("urls")
    @classmethod
    def _schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if url.partition(":")[0] not in ("stun", "stuns", "turn", "turns"):
                raise ValueError(f"{url!r} does not begin with stun:, stuns:, turn: or turns:")
        return value


class RelaySettings(Section):
    """A TURN server that shares a secret with us (coturn's ``use-auth-secret``)."""

    urls: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    secret: SecretStr | None = None
    ttl_seconds: Annotated[float, Field(ge=60, le=86_400)] = 3600
    """How long the credentials given to a caller open the relay; longer than a call lasts."""

    @field_validator("urls")
    @classmethod
    def _schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if url.partition(":")[0] not in ("turn", "turns"):
                raise ValueError(f"{url!r} does not begin with turn: or turns:")
        return value

    @model_validator(mode="after")
    def _whole(self) -> RelaySettings:
        if bool(self.urls) != (self.secret is not None and bool(self.secret.get_secret_value())):
            raise ValueError("urls and secret belong together: set both, or neither")
        return self


class WebRtcSettings(Section):
    """Calls from browsers."""

    enabled: bool = True
    public: bool = True
    """Whether the page is served, and gives everybody who opens it leave to call. Without it only
    tokens made with an API key (``POST /v1/webrtc/tokens``) are."""

    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers for callers and for this server itself."""

    turn: RelaySettings = RelaySettings()
    """A relay for callers alone, with credentials of their own for each."""

    relay_only: bool = False
    """Have callers use relays alone, so that no address of theirs reaches this server."""

    session_token_ttl_seconds: Seconds = 120
    """How long a loaded page may wait before it calls."""

    token_key: SecretStr | None = None
    """Signs the tokens, 32 characters or more; needed where several processes serve one address.
    None: made at every start."""

    origins: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Other sites whose pages may call with a token bound to them: ``https://shop.example.com``."""

    reconnect_seconds: Annotated[float, Field(ge=1, le=14)] = 10
    """How long a call waits for a caller that is no longer heard."""

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if f"{parts.scheme}://{parts.netloc}" != origin or parts.scheme not in (
                "http",
                "https",
            ):
                raise ValueError(f"{origin!r} is no origin like https://shop.example.com")
        return value

    @field_validator("token_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("token_key has less than 32 characters")
        return value

    @model_validator(mode="after")
    def _relays(self) -> WebRtcSettings:
        named = [url for server in self.ice_servers for url in server.urls]
        if self.relay_only and not any(url.startswith("turn") for url in [*named, *self.turn.urls]):
            raise ValueError("relay_only, but neither turn nor ice_servers names a TURN server")
        return self
