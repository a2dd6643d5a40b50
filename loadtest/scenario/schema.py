"""A scenario: who calls how, what they do, what they expect, and what is done to the target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from ringtrue.config.section import Section
from ringtrue.loadtest.prompts import voices
from ringtrue.loadtest.scenario.steps import (
    Hear,
    Interrupt,
    Milliseconds,
    Say,
    Seconds,
    Step,
    flattened,
)
from ringtrue.loadtest.slo import Slo

Share = Annotated[float, Field(ge=0, le=1)]
Delay = Annotated[float, Field(ge=0, le=2000)]

Codec = Literal["PCMU", "PCMA", "G722", "opus"]
CallerVoice = Literal["rms", "awb"]
Behaviour = Literal["normal", "slow", "silent", "mid_silent", "dead", "error"]

TRANSPORTS: Final = ("sip", "twilio", "webrtc")


class OneWay(Section):
    """One direction of the network, as :mod:`ringtrue.loadtest.netem` emulates it."""

    loss: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of packets lost, by Gilbert and Elliott's two states."""

    burst: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Packets lost in a row on average."""

    delay_ms: Delay = 0.0
    jitter_ms: Delay = 0.0
    """Mean of the exponential delay added to each packet."""

    spike: Share = 0.0
    """Chance per packet that the path stalls."""

    spike_ms: Delay = 0.0
    reorder: Share = 0.0
    """Share of packets that may overtake those before them."""

    duplicate: Share = 0.0

    @property
    def clean(self) -> bool:
        """Whether it does nothing."""
        return self == OneWay()


class Network(Section):
    """What the callers' network does to them. Delays are one way."""

    up: OneWay = OneWay()
    """From the caller to the target."""

    down: OneWay = OneWay()
    drift_ppm: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    """How much faster the callers' clocks run than they should, in parts per million."""

    def words(self) -> str | None:
        """It in a few words; None where it does nothing."""
        said = []
        for name, path in (("up", self.up), ("down", self.down)):
            given = [
                f"{key} {value:g}" for key, value in path.model_dump(exclude_defaults=True).items()
            ]
            if given:
                said.append(f"{name}: {', '.join(given)}")
        if self.drift_ppm:
            said.append(f"drift {self.drift_ppm:g} ppm")
        return "; ".join(said) or None


class Caller(Section):
    """Who calls and how."""

    voices: Annotated[tuple[CallerVoice, ...], Field(min_length=1)] = ("rms", "awb")
    """One of them is drawn for each call."""

    codecs: Annotated[tuple[Codec, ...], Field(min_length=1)] = ("PCMU",)
    """Of SIP calls, best first."""

    background_dbfs: Annotated[float, Field(ge=-70, le=-20)] | None = None
    """White noise under everything the caller says and doesn't; null: none."""

    answer_within: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Seconds until an unanswered call is given up; for placed calls, until it comes."""


class Expect(Section):
    """What every call must show. Milliseconds are at the caller's ear."""

    answered_within_ms: Milliseconds | None = None
    """From the INVITE, the webhook or the offer, to the answer."""

    greeting_within_ms: Milliseconds | None = None
    """From the answer to the agent's first sample."""

    answers_within_ms: Milliseconds | None = None
    """Each turn: from the caller's last speech sample to the agent's first."""

    stops_within_ms: Milliseconds | None = None
    """Each interruption: from the caller's first speech sample to the agent's last."""

    keeps_talking_within_ms: Milliseconds | None = None
    """Each backchannel: at most so long a pause may follow before the sentence goes on."""

    no_gap_over_ms: Milliseconds | None = None
    """Dropped audio inside an utterance."""

    no_silence_over_ms: Milliseconds | None = None
    """Silence while the agent owes an answer."""

    disclosure_first: bool = False
    """The agent's first utterance says that it is an AI, as recognized from the audio."""

    watermark: bool = False
    """The agent's speech carries the target's watermark."""

    says: dict[str, str] = {}
    """Prompt → topic of the agent's answer to it, as recognized; topics as in the agent's file."""

    ends: Literal["agent", "caller"] | None = None
    """Who ends the call."""

    refused: bool = False
    """The call is not to be answered at all."""

    @property
    def heard(self) -> bool:
        """Whether the agent's words must be recognized."""
        return self.disclosure_first or bool(self.says)


class Llm(Section):
    """The stand-in for a language model that ``--spawn`` starts, over OpenAI's wire."""

    replies: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "I can help you with that. Is there anything else?",
        "Certainly. What else would you like to know?",
    )
    """Said in turn, drawn by the seed."""

    first_token_ms: Milliseconds = 80.0
    token_ms: Milliseconds = 15.0
    jitter: Share = 0.2
    """How far both vary, as a part of themselves."""

    behaviour: Behaviour = "normal"
    """Slow: ten times the times; silent: headers and nothing more; mid_silent: half a reply;
    dead: nobody listens; error: HTTP 500."""


class Fault(Section):
    """Something done to a spawned target while it takes calls."""

    at: Seconds
    """Seconds after the first call began."""

    kind: Literal[
        "llm",
        "redis_dies",
        "recognizer_stalls",
        "worker_killed",
        "disk_full",
        "voice_withdrawn",
    ]
    behaviour: Behaviour = "dead"
    """Of ``llm``: what it does from then on."""

    seconds: Seconds | None = None
    """After which it is undone, where it can be; null: it stays."""


class Serve(Section):
    """The target that ``--spawn`` starts."""

    agent: str = "reception"
    agents: Path | None = None
    """A directory of agents, relative to the scenario's file; null: those shipped."""

    llm: Llm | None = None
    """None: the agent's embedded dialogue answers."""

    stand_ins: bool = False
    """A stand-in recognizer in place of the real one, which knows the shipped prompts alone."""

    redis: bool = False
    """Start a Redis for it."""

    cloned_voice: bool = False
    """Enrol a voice for the agent first."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    settings: dict[str, Any] = {}
    """Further settings of the server, as in its file."""


class Scenario(Section):
    """One scenario."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    title: Annotated[str, Field(min_length=1, max_length=120)]
    direction: Literal["inbound", "outbound"] = "inbound"
    """Outbound: the target is told to place the calls, and the callers answer them."""

    transports: Annotated[tuple[Literal["sip", "twilio", "webrtc"], ...], Field(min_length=1)] = (
        "sip",
        "twilio",
        "webrtc",
    )
    """Over which it makes sense."""

    agent: str = "reception"
    """Who is called: the user part of a SIP URI without one, the agent of a browser's call."""

    caller: Caller = Caller()
    network: Network = Network()
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]
    expect: Expect = Expect()
    max_seconds: Annotated[float, Field(gt=0, le=600)] = 180.0
    """A call that takes longer has failed."""

    serve: Serve = Serve()
    faults: Annotated[tuple[Fault, ...], Field(max_length=20)] = ()
    slo: Slo | None = None
    """Limits of a run where no file of them is given; null: the shipped ones."""

    @model_validator(mode="after")
    def _together(self) -> Scenario:
        script = flattened(self.steps)
        if set(self.caller.voices) - set(voices()):
            raise ValueError(f"caller.voices: there are {', '.join(voices())}")
        if any(step.kind == "hold" for step in script) and set(self.transports) != {"sip"}:
            raise ValueError("a hold step needs transports: [sip]")
        if self.direction == "outbound" and set(self.transports) != {"sip"}:
            raise ValueError("direction outbound needs transports: [sip]")
        if any(fault.kind == "llm" for fault in self.faults) and self.serve.llm is None:
            raise ValueError("a fault of kind llm needs serve.llm")
        if any(fault.kind == "redis_dies" for fault in self.faults) and not self.serve.redis:
            raise ValueError("a fault of kind redis_dies needs serve.redis: true")
        if (
            any(fault.kind == "voice_withdrawn" for fault in self.faults)
            and not self.serve.cloned_voice
        ):
            raise ValueError("a fault of kind voice_withdrawn needs serve.cloned_voice: true")
        said = {step.does.name for step in script if isinstance(step.does, Say | Interrupt)}
        if unknown := set(self.expect.says) - said:
            raise ValueError(
                f"expect.says names {', '.join(sorted(unknown))}, which no step says; "
                f"said: {', '.join(sorted(said)) or 'nothing'}"
            )
        return self

    @property
    def turns(self) -> int:
        """Turns that a call has if all goes well."""
        return sum(
            isinstance(step.does, Interrupt) or (isinstance(step.does, Say) and step.does.answered)
            for step in flattened(self.steps)
        )

    @property
    def greeted(self) -> bool:
        """Whether callers wait to be greeted before they say anything."""
        return isinstance(flattened(self.steps)[0].does, Hear)
