"""The server's settings: their types, ranges and meaning. :func:`load_settings` reads them.

Everything is frozen and unknown keys are errors. Times are in seconds, rates in Hz.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ringtrue.config.admission_settings import AdmissionSettings
from ringtrue.config.audit_settings import AuditSettings
from ringtrue.config.budget_settings import BudgetSettings, FallbackModel
from ringtrue.config.carrier_settings import CarriersSettings, TwilioSettings
from ringtrue.config.dial_settings import OutboundSettings
from ringtrue.config.echo_settings import EchoSettings
from ringtrue.config.layers import ENV_PREFIX, load_layers, validated
from ringtrue.config.media_settings import MediaSettings
from ringtrue.config.recording_settings import RecordingsSettings
from ringtrue.config.section import Seconds, Section, split_list
from ringtrue.config.service_settings import NamedService
from ringtrue.config.sip_settings import (
    AccountName,
    CallersSettings,
    RegistrationSettings,
    TlsSettings,
)
from ringtrue.config.turn_settings import TurnSettings
from ringtrue.config.voice_settings import VoicesSettings
from ringtrue.config.webrtc_settings import WebRtcSettings

Port = Annotated[int, Field(ge=0, le=65535)]
"""A port to listen on; 0 lets the system choose."""

MAX_WORKERS: Final = 32
"""Each of them writes an audit log of its own, of which there may be 64 at a time."""

Probability = Annotated[float, Field(ge=0, le=1)]
Codec = Literal["opus", "G722", "PCMU", "PCMA"]


def _unique(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("names something twice")
    return value


def _workers(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int | str) and str(value).isdecimal() and 1 <= int(value) <= MAX_WORKERS:
        return int(value)
    raise ValueError(f"must be 1 to {MAX_WORKERS}, or auto")


class ServerSettings(Section):
    """The process."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = "Ringtrue"
    """Shown in User-Agent, on the page and in logs."""

    drain_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30
    """How long a stopping server lets calls finish."""

    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = 1
    """Processes that calls are spread over; ``auto``: one for each processor."""

    spare_worker: bool = True
    """Keep another process loaded, where there are several: it takes the place of one that dies."""

    max_calls: Annotated[int, Field(ge=1, le=10_000)] = 50
    max_call_seconds: Seconds = 3600


class SipSettings(Section):
    """SIP signalling and RTP."""

    enabled: bool = True
    host: str = "0.0.0.0"
    """An IP literal: media ports are bound there too."""

    port: Port = 5060
    udp: bool = True
    tcp: bool = True
    advertised_host: str | None = None
    """What Contact and SDP name, where it differs from ``host``; an IP literal."""

    codecs: Annotated[tuple[Codec, ...], BeforeValidator(split_list), Field(min_length=1)] = (
        "opus",
        "G722",
        "PCMU",
        "PCMA",
    )
    """In order of preference."""

    rtp_port_min: Annotated[int, Field(ge=1024, le=65534)] = 20000
    rtp_port_max: Annotated[int, Field(ge=1025, le=65535)] = 20999
    """RTP takes even ports, RTCP the odd one above (RFC 3550 §11)."""

    routes: dict[str, str] = {}
    """User part of the dialled URI → agent."""

    registrations: dict[AccountName, RegistrationSettings] = {}
    """Accounts with providers, by a name of ours."""

    callers: CallersSettings = CallersSettings()
    tls: TlsSettings = TlsSettings()

    _codecs_once = field_validator("codecs")(_unique)

    @field_validator("host", "advertised_host")
    @classmethod
    def _literal(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ipaddress.ip_address(value)
            except ValueError:
                raise ValueError("not an IP address, e.g. 0.0.0.0, 192.0.2.10 or ::") from None
        return value

    @model_validator(mode="after")
    def _together(self) -> SipSettings:
        if self.rtp_port_min % 2:
            raise ValueError(f"rtp_port_min {self.rtp_port_min} is odd; RTP takes even ports")
        if self.rtp_port_max <= self.rtp_port_min:
            raise ValueError(
                f"rtp_port_max {self.rtp_port_max} must be above rtp_port_min {self.rtp_port_min}"
            )
        if self.enabled and not (self.udp or self.tcp or self.tls.enabled):
            raise ValueError("enabled, but none of udp, tcp and tls is; allowed: at least one")
        callers = self.callers
        if callers.required and not (callers.users or callers.trusted or self.registrations):
            raise ValueError(
                "callers.required is true, but there are no callers.users, callers.trusted or "
                "registrations: nobody could call"
            )
        return self


class HttpSettings(Section):
    """The web server: page, WebRTC signalling, Twilio, health and metrics."""

    enabled: bool = True
    host: str = "0.0.0.0"
    port: Port = 8080
    public_url: str | None = None
    """As the outside sees this server; Twilio signs it and connects to it."""

    metrics: bool = True

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("not an absolute http(s) URL, e.g. https://voice.example.com")
        return value.rstrip("/")


class VadSettings(Section):
    """Voice activity: webrtcvad gates, silero confirms."""

    confidence: Probability = 0.6
    release: Probability = 0.35
    start_seconds: Annotated[float, Field(ge=0.032, le=2)] = 0.16
    stop_seconds: Annotated[float, Field(ge=0.032, le=5)] = 0.2
    aggressiveness: Annotated[int, Field(ge=0, le=3)] = 2

    @model_validator(mode="after")
    def _hysteresis(self) -> VadSettings:
        if self.release > self.confidence:
            raise ValueError(
                f"release {self.release} must not be above confidence {self.confidence}"
            )
        return self


class PipecatService(NamedService):
    """Any Pipecat service, by name, with its own settings."""

    engine: Literal["pipecat"]


class PocketsphinxSettings(Section):
    """The embedded recognizer; its model is in the wheel."""

    engine: Literal["pocketsphinx"]
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Worker processes shared by all calls."""

    model: Literal["agent", "general", "lm", "jsgf"] = "agent"
    """``agent``: compiled from the agent's own phrases; ``general``: the wheel's;
    ``lm``, ``jsgf``: from ``file``."""

    file: Path | None = None
    mirror_gain: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Gain of the 0-4 kHz band mirrored into 4-8 kHz on 8 kHz calls."""

    @model_validator(mode="after")
    def _file_with_model(self) -> PocketsphinxSettings:
        wants = self.model in ("lm", "jsgf")
        if wants and self.file is None:
            raise ValueError(f"model {self.model!r} needs file: the path of the {self.model} file")
        if not wants and self.file is not None:
            raise ValueError(f"file is only read with model lm or jsgf, not {self.model!r}")
        return self


class WhisperSettings(Section):
    """faster-whisper, from a directory or a hub name."""

    engine: Literal["whisper"]
    model: Annotated[str, Field(min_length=1)] = "base.en"
    """A directory with a CTranslate2 model, or a name on the Hugging Face hub."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "int8"
    language: str | None = "en"
    beam_size: Annotated[int, Field(ge=1, le=10)] = 1
    window_seconds: Annotated[float, Field(ge=2, le=30)] = 12
    """Audio held at most while the caller speaks."""

    step_seconds: Annotated[float, Field(ge=0.2, le=5)] = 0.8
    """New audio between two partial results."""

    threads: Annotated[int, Field(ge=0, le=64)] = 0
    """CPU threads of the model; 0 lets CTranslate2 choose."""


class DialogueSettings(Section):
    """The embedded dialogue of the agent's file; needs no model."""

    engine: Literal["dialogue"]


class OpenAiSettings(Section):
    """An OpenAI-compatible endpoint: OpenAI, vLLM, Ollama and others."""

    engine: Literal["openai"]
    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = None
    """E.g. ``http://127.0.0.1:11434/v1``; none: OpenAI's own."""

    api_key: SecretStr | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    fallback: FallbackModel | None = None
    """Asked where the first model fails, or gives no token for :attr:`hedge_seconds`."""

    hedge_seconds: Annotated[float, Field(ge=0, le=30)] | None = None
    """Without a token for so long, a second request is made and the first to answer taken. None:
    with a fallback, half of ``deadlines.llm_first_chunk_seconds``; without one, never."""


class FliteSettings(Section):
    """The embedded synthesizer."""

    engine: Literal["flite"]
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    voice: Literal["slt", "awb", "rms"] | None = None
    """Overrides every agent's own voice."""


class HostedSpeech(PipecatService):
    """A Pipecat service that speaks, and what speaks where it fails."""

    fallback: Annotated[FliteSettings | PipecatService, Field(discriminator="engine")] | None = None
    """Takes over for the rest of a call where the service makes nothing of a phrase for
    ``budget.voice_stall_seconds``."""


class FarEndSettings(Section):
    """How long a far end may not be heard before the agent stops speaking, by transport."""

    sip: Seconds = 20
    """Phones may send nothing while their user is silent, and reports only every 5 s or so, give
    or take half (RFC 3550 §6.2): this is more than two of them lost."""

    webrtc: Seconds = 5
    """Browsers send audio and reports all the time, and ICE checks (RFC 7675)."""

    twilio: Seconds = 8
    """Twilio sends 20 ms of audio every 20 ms, silence too."""

    def of(self, transport: str) -> float:
        """The limit of a call's transport; Twilio's for every carrier's stream."""
        return {"webrtc": self.webrtc, "sip": self.sip}.get(transport, self.twilio)


class GateSettings(Section):
    """Limits the outbound gate enforces."""

    far_end_timeout_seconds: FarEndSettings = FarEndSettings()
    far_end_grace_seconds: Seconds = 10
    max_age_seconds: Seconds = 120


class DeadlineSettings(Section):
    """How long the LLM may be silent before the agent says something itself."""

    llm_first_chunk_seconds: Seconds = 2.5
    llm_inter_chunk_seconds: Seconds = 2.0


class AgentSettings(Section):
    """Where agents are found, and which answers where no route names one."""

    dir: Path | None = None
    """None: the agents shipped with the package."""

    default: Annotated[str, Field(min_length=1)] = "reception"


class RecordSettings(Section):
    """Call records on disk."""

    dir: Path | None = None
    """None: records are not written."""

    keep: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """How many of the newest are kept."""


class LoggingSettings(Section):
    """The log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "console"] = "console"


class PathSettings(Section):
    """Places on this machine."""

    libraries: Annotated[tuple[Path, ...], BeforeValidator(split_list)] = ()
    """Searched for shared libraries after the system's own directories."""

    cache: Path | None = None


class Settings(BaseSettings):
    """Everything the server is told; see ``config/default.yaml`` for the shipped values."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    server: ServerSettings = ServerSettings()
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    http: HttpSettings = HttpSettings()
    webrtc: WebRtcSettings = WebRtcSettings()
    twilio: TwilioSettings = TwilioSettings()
    carriers: CarriersSettings = CarriersSettings()
    vad: VadSettings = VadSettings()
    turns: TurnSettings = TurnSettings()
    stt: Annotated[
        PocketsphinxSettings | WhisperSettings | PipecatService, Field(discriminator="engine")
    ] = PocketsphinxSettings(engine="pocketsphinx")
    llm: Annotated[
        DialogueSettings | OpenAiSettings | PipecatService, Field(discriminator="engine")
    ] = DialogueSettings(engine="dialogue")
    tts: Annotated[FliteSettings | HostedSpeech, Field(discriminator="engine")] = FliteSettings(
        engine="flite"
    )
    gate: GateSettings = GateSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    budget: BudgetSettings = BudgetSettings()
    echo: EchoSettings = EchoSettings()
    agents: AgentSettings = AgentSettings()
    voices: VoicesSettings = VoicesSettings()
    audit: AuditSettings = AuditSettings()
    outbound: OutboundSettings = OutboundSettings()
    admission: AdmissionSettings = AdmissionSettings()
    records: RecordSettings = RecordSettings()
    recordings: RecordingsSettings = RecordingsSettings()
    logging: LoggingSettings = LoggingSettings()
    paths: PathSettings = PathSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: :func:`load_settings` reads files and the environment."""
        return (init_settings,)

    @model_validator(mode="after")
    def _something_to_serve(self) -> Settings:
        if self.twilio.enabled and not self.http.enabled:
            raise ValueError("twilio is enabled, but http is not: Twilio connects over HTTP")
        if self.carriers.enabled and not self.http.enabled:
            raise ValueError("carriers are enabled, but http is not: they connect over HTTP")
        if self.webrtc.enabled and not self.http.enabled and not self.sip.enabled:
            raise ValueError("neither sip nor http is enabled: nobody could call")
        return self


def load_settings(
    path: Path | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings: shipped defaults, then the YAML file at ``path``, then ``RINGTRUE_*``.

    ``environ`` is the environment to read (default: the process's). Variables nest by ``__``:
    ``RINGTRUE_SIP__PORT=5070``. Where a layer names another ``engine``, it replaces the section
    below it as a whole. Relative paths in the file are relative to the file.

    Raises :class:`~ringtrue.config.errors.SettingsError` listing every wrong key with its value
    (secrets masked), where it came from and what is allowed.
    """
    layers = load_layers(path, environ)
    return validated(Settings, layers)
