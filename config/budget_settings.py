"""Settings of the time a turn may take, and of what is done when it runs out."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, SecretStr, model_validator

from ringtrue.config.section import Section

Share = Annotated[float, Field(gt=0, le=60)]

_SLACK: Final = 1e-6


class AllotmentSettings(Section):
    """How long each stage of a turn may take."""

    endpointing: Share = 0.35
    """The caller's last speech sample → the decision that the caller is done."""

    recognizer: Share = 0.25
    """Of that: the pause was noticed → the final text."""

    first_token: Share = 0.2
    first_clause: Share = 0.05
    """The first token → the first speakable text at the synthesizer."""

    first_pcm: Share = 0.12
    gate: Share = 0.06
    """The first samples → the first frame admitted, at the media clock's next tick."""

    wire: Share = 0.02


class BudgetSettings(Section):
    """What a turn may take, and what happens when it doesn't keep to it."""

    turn_seconds: Share = 0.8
    """The caller's last speech sample → the first packet of the agent's speech."""

    ttfa_seconds: Share = 0.2
    """First speakable text → first packet of it."""

    allotments: AllotmentSettings = AllotmentSettings()
    openers: bool = True
    """Say a few words made beforehand where the answer would be late."""

    apology_seconds: Annotated[float, Field(ge=0.5, le=10)] = 1.0
    """Silence, while an answer is owed, after which the agent says that it takes longer."""

    apologies: Annotated[int, Field(ge=0, le=10)] = 2
    """So often in a turn; then the agent gives up, as ``stalls.give_up`` of its file says."""

    voice_stall_seconds: Annotated[float, Field(ge=0.2, le=10)] = 1.0
    """A synthesizer that makes nothing of a phrase for so long has failed."""

    recognizer_stall_seconds: Annotated[float, Field(ge=0.2, le=10)] = 0.7
    """A recognizer whose final text takes longer has failed, for that turn."""

    @model_validator(mode="after")
    def _adds_up(self) -> BudgetSettings:
        shares = self.allotments
        speaking = shares.first_pcm + shares.gate + shares.wire
        whole = shares.endpointing + shares.first_token + shares.first_clause + speaking
        for name, total, limit in (
            ("ttfa_seconds", speaking, self.ttfa_seconds),
            ("turn_seconds", whole, self.turn_seconds),
        ):
            if total > limit + _SLACK:
                raise ValueError(
                    f"{name} is {limit:g}, but the allotments of its stages add up to {total:g}"
                )
        if shares.recognizer > shares.endpointing:
            raise ValueError(
                f"allotments.recognizer {shares.recognizer:g} is a part of "
                f"allotments.endpointing {shares.endpointing:g} and can't be more"
            )
        return self


class FallbackModel(Section):
    """A second model, at the same endpoint or another one that speaks OpenAI's wire format."""

    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = None
    """None: the first model's."""

    api_key: SecretStr | None = None
    """None: the first model's, which goes nowhere but to the first model's endpoint."""

    @model_validator(mode="after")
    def _own_key(self) -> FallbackModel:
        if self.api_key is not None and self.base_url is None:
            raise ValueError(
                "api_key is set, but base_url is not; allowed: both, or base_url alone"
            )
        return self
