"""Settings of carriers that bring calls over websockets, and of Twilio's REST interface."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from ringtrue.config.section import Seconds, Section

StreamRate = Literal[8000, 16000]
"""Hz."""

_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}")


def _set(value: SecretStr | None) -> bool:
    return value is not None and bool(value.get_secret_value())


class TwilioSettings(Section):
    """Calls through Twilio Media Streams, and placed over its REST interface."""

    enabled: bool = False
    auth_token: SecretStr | None = None
    account_sid: str | None = None
    """Other accounts' webhooks are refused; needed to place calls."""

    stream_token_ttl_seconds: Seconds = 30
    """How long the stream may take to connect after the webhook was answered."""

    api_url: str = "https://api.twilio.com"
    detect_machines: bool = False
    """Have Twilio tell, while a placed call goes on, whether a machine answered; it costs extra."""

    @field_validator("api_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        parts = urlsplit(value)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise ValueError("not an https URL: the account's token is sent there")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _needs_token(self) -> TwilioSettings:
        if self.enabled and not _set(self.auth_token):
            raise ValueError(
                "enabled, but auth_token is not set: without it no webhook's signature can be "
                "checked; set RINGTRUE_TWILIO__AUTH_TOKEN"
            )
        return self

    @property
    def places_calls(self) -> bool:
        """Whether the REST interface can be used."""
        return self.enabled and _ACCOUNT.fullmatch(self.account_sid or "") is not None


class TelnyxSettings(Section):
    """TeXML applications with bidirectional streams."""

    enabled: bool = False
    public_key: str | None = None
    """The account's Ed25519 key that signs webhooks, base64."""

    api_key: SecretStr | None = None
    """Ends calls; without it a call goes on with the TeXML after the stream, which hangs up."""

    @model_validator(mode="after")
    def _key(self) -> TelnyxSettings:
        if self.enabled:
            try:
                key = base64.b64decode(self.public_key or "", validate=True)
            except binascii.Error:
                key = b""
            if len(key) != 32:
                raise ValueError("enabled, but public_key is not 32 bytes in base64")
        return self


class PlivoSettings(Section):
    """Plivo's audio streams."""

    enabled: bool = False
    auth_id: str | None = None
    auth_token: SecretStr | None = None

    @model_validator(mode="after")
    def _keys(self) -> PlivoSettings:
        if self.enabled and not (self.auth_id and _set(self.auth_token)):
            raise ValueError("enabled, but auth_id and auth_token are not both set")
        return self


class ExotelSettings(Section):
    """Exotel's voicebot applet."""

    enabled: bool = False
    api_key: str | None = None
    api_token: SecretStr | None = None
    """What its URL is given to show (Basic authentication), not the account's own."""

    rate: StreamRate = 8000
    """As ``sample-rate`` of the applet's URL."""

    @model_validator(mode="after")
    def _keys(self) -> ExotelSettings:
        if self.enabled and not (self.api_key and _set(self.api_token)):
            raise ValueError("enabled, but api_key and api_token are not both set")
        return self


class VonageSettings(Section):
    """Vonage Voice API websockets."""

    enabled: bool = False
    signature_secret: SecretStr | None = None
    """Signs the webhooks (JWT, HS256); the account's, 32 characters or more."""

    api_key: str | None = None
    """Other accounts' webhooks are refused where it is set."""

    rate: StreamRate = 16000

    @model_validator(mode="after")
    def _secret(self) -> VonageSettings:
        if self.enabled and not _set(self.signature_secret):
            raise ValueError("enabled, but signature_secret is not set")
        return self


class GenesysSettings(Section):
    """Genesys Cloud AudioHook (Audio Connector)."""

    enabled: bool = False
    api_key: SecretStr | None = None
    client_secret: SecretStr | None = None
    """Signs the websocket's request, base64; None: the key alone lets in."""

    @model_validator(mode="after")
    def _keys(self) -> GenesysSettings:
        if self.enabled and not _set(self.api_key):
            raise ValueError("enabled, but api_key is not set")
        if self.client_secret is not None:
            try:
                base64.b64decode(self.client_secret.get_secret_value(), validate=True)
            except binascii.Error:
                raise ValueError("client_secret is not base64") from None
        return self


class CarriersSettings(Section):
    """Carriers besides Twilio."""

    stream_token_ttl_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    """How long a stream may take to connect after its webhook was answered."""

    telnyx: TelnyxSettings = TelnyxSettings()
    plivo: PlivoSettings = PlivoSettings()
    exotel: ExotelSettings = ExotelSettings()
    vonage: VonageSettings = VonageSettings()
    genesys: GenesysSettings = GenesysSettings()

    @property
    def enabled(self) -> bool:
        """Whether any is."""
        every = (self.telnyx, self.plivo, self.exotel, self.vonage, self.genesys)
        return any(carrier.enabled for carrier in every)
