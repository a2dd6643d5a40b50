"""What places calls over Twilio in a server, where the settings say that it may."""

from __future__ import annotations

from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import Settings
from ringtrue.telephony.twilio.placing import TwilioDialler
from ringtrue.telephony.twilio.rest import TwilioRest


def twilio_trunks(settings: Settings) -> list[str]:
    """The trunks whose calls Twilio places."""
    trunks = settings.outbound.trunks
    return [name for name, trunk in trunks.items() if trunk.provider == "twilio"]


def check_twilio_trunks(settings: Settings) -> None:
    """Raise :class:`ConfigError` for trunks over which no call could be placed."""
    names = twilio_trunks(settings)
    if names and not (settings.twilio.places_calls and settings.http.public_url is not None):
        raise ConfigError(
            f"outbound.trunks.{names[0]} is Twilio's, which needs twilio.enabled, "
            "twilio.account_sid (AC and 32 digits) and http.public_url, at which Twilio reaches "
            "this server"
        )


def dialler_of(settings: Settings, mark: str = "") -> TwilioDialler | None:
    """What places calls; None where no trunk is Twilio's. ``mark`` ends its ids and tokens."""
    twilio, public_url = settings.twilio, settings.http.public_url
    if not settings.outbound.enabled or not twilio_trunks(settings):
        return None
    assert public_url is not None and twilio.account_sid is not None  # noqa: PT018 - checked before
    assert twilio.auth_token is not None
    rest = TwilioRest(
        twilio.account_sid, twilio.auth_token.get_secret_value(), base_url=twilio.api_url
    )
    return TwilioDialler(
        rest, public_url=public_url, mark=mark, detect_machines=twilio.detect_machines
    )
