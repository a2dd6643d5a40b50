"""What an agent does where a machine answers a call it placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ringtrue.config.agent_dialogue import Part, Text


class VoicemailFile(Part):
    """Of placed calls alone; nobody waits for the verdict."""

    detect: bool = True
    """Judge who answered, and write it to the call's record."""

    action: Literal["talk", "hang_up", "leave_message"] = "talk"
    """Once a machine was recognized: go on as with a person, hang up, or say :attr:`message`
    after the beep and hang up."""

    message: Text | None = None
    """For ``leave_message``; the disclosure comes before it. May hold placeholders."""

    wait_seconds: Annotated[float, Field(ge=5, le=180)] = 60
    """How long the machine may talk before the message is said all the same."""

    @model_validator(mode="after")
    def _message_to_leave(self) -> VoicemailFile:
        if self.action == "leave_message" and self.message is None:
            raise ValueError("message must be given where action is leave_message")
        if self.action != "talk" and not self.detect:
            raise ValueError(f"action {self.action!r} needs detect: true")
        return self
