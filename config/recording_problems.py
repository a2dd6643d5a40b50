"""What of an agent's file must fit together where its calls are recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ringtrue.config.agent_dialogue import PLACEHOLDER, DialogueFile
from ringtrue.config.agent_disclosure import DisclosureFile
from ringtrue.config.recording_settings import RecordingFile

_UNSPOKEN: Final = re.compile(r"<[^>]*>|[\W_]")


def recording_problems(
    recording: RecordingFile, disclosure: DisclosureFile, dialogue: DialogueFile | None
) -> list[tuple[str, str]]:
    """What keeps an agent from recording: callers who would not be told, and sensitive values
    that would be spoken into the recording."""
    if not recording.enabled:
        return []
    problems = []
    if "recorded" in disclosure.model_fields_set and not disclosure.recorded:
        problems.append(
            (
                "disclosure.recorded",
                "is false, but recording.enabled is true: callers are told; allowed: true, or "
                "leave it out",
            )
        )
    if disclosure.recording is not None and not _UNSPOKEN.sub("", disclosure.recording):
        problems.append(("disclosure.recording", "says nothing, but calls are recorded"))
    if dialogue is not None:
        secret = {name for name, slot in dialogue.slots.items() if slot.sensitive}
        for key, text in _spoken(dialogue):
            for name in sorted(secret & set(PLACEHOLDER.findall(text))):
                problems.append(
                    (f"dialogue.{key}", f"uses {{{name}}}, which is sensitive: calls are recorded")
                )
    return problems


def _spoken(dialogue: DialogueFile) -> Iterator[tuple[str, str]]:
    """Every text of a dialogue that may hold a slot's value, and what callers say with one."""
    yield from (("follow_up", text) for text in dialogue.follow_up)
    for name, state in dialogue.states.items():
        yield from ((f"states.{name}.prompt", text) for text in state.prompt)
    for name, slot in dialogue.slots.items():
        yield from ((f"slots.{name}.ask", text) for text in slot.ask)
        yield from ((f"slots.{name}.retry", text) for text in slot.retry)
    for name, intent in dialogue.intents.items():
        for field in ("examples", "confirm", "declined", "answers", "follow_up"):
            texts: tuple[str, ...] = getattr(intent, field) or ()
            yield from ((f"intents.{name}.{field}", text) for text in texts)
