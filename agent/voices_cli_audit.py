"""Re-scoring live voices: does each still sound like its speaker, and do its consents hold?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from ringtrue.agent.cli_common import DONE, REFUSED, print_json
from ringtrue.agent.voice_library import open_voices
from ringtrue.agent.voices_view import VoiceView, view_voice
from ringtrue.config.settings import Settings
from ringtrue.streaming.errors import RingtrueError
from ringtrue.voices.consent.decision import Reason
from ringtrue.voices.consent.records import Scope
from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.enrolment.audition import enrolled_likeness
from ringtrue.voices.library import VoiceLibrary, utc_now
from ringtrue.voices.quality.likeness import Audit, likeness
from ringtrue.voices.store.profile import BlobKind, Lifecycle, Voice

SOON: Final = timedelta(days=30)
"""A consent that ends before this is pointed out."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One voice, looked at."""

    voice: str
    name: str
    likeness: float | None
    """Cosine to its speaker; None where no consent lets it speak."""

    enrolled: float | None
    """The same when it was enrolled; None where that was not kept."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems


async def audit(
    settings: Settings, tenant: str, voice: str | None, floor: float, *, as_json: bool
) -> int:
    """Look at one voice, or at every live one; the exit code tells how it went."""
    async with open_voices(settings) as library:
        if voice is not None:
            profiles = [await library.find(tenant, voice)]
        else:
            listed = await library.store.voices.list(tenant)
            profiles = [held for held in listed if held.lifecycle is Lifecycle.LIVE]
        encoder = SpeakerEncoder.load()
        found = []
        for profile in profiles:
            view = await view_voice(library, tenant, profile.id, utc_now())
            found.append(await _audited(library, view, floor, encoder))
    if as_json:
        print_json({"floor": floor, "voices": [_shown(item) for item in found]})
    else:
        table = Table("voice", "likeness", "at enrolment", "problems", "notes")
        for item in found:
            scores = map(_figure, (item.likeness, item.enrolled))
            table.add_row(item.name, *scores, "\n".join(item.problems), "\n".join(item.notes))
        Console().print(table)
    return DONE if all(item.passed for item in found) else REFUSED


async def _audited(
    library: VoiceLibrary, view: VoiceView, floor: float, encoder: SpeakerEncoder
) -> Audited:
    problems, notes = [], []
    now = utc_now()
    for item in view.consents:
        if item.standing in (Reason.SIGNATURE, Reason.VOICE_CHANGED):
            problems.append(f"consent {item.consent.serial}: {item.standing}")
        elif item.live and item.consent.scope.expires - now < SOON:
            notes.append(
                f"consent {item.consent.serial} ends {item.consent.scope.expires:%Y-%m-%d}"
            )
    voice, score = view.voice, None
    before = await enrolled_likeness(library.store.voices, voice.tenant, voice.id)
    live = [item.consent for item in view.consents if item.live]
    if not live:
        notes.append("no consent lets it speak")
    else:
        try:
            score = await _score(library, voice, live[0].scope, encoder)
        except RingtrueError as error:
            problems.append(str(error))
        else:
            if before is not None and (found := Audit(score, before)).drifted:
                problems.append(
                    f"likeness {score:.3f} is more than {found.max_drop:g} under the {before:.3f} "
                    "it was enrolled with"
                )
            elif before is None and score < floor:
                problems.append(f"likeness {score:.3f} is under {floor:.3f}")
    return Audited(voice.id, voice.name, score, before, tuple(problems), tuple(notes))


async def _score(
    library: VoiceLibrary, voice: Voice, scope: Scope, encoder: SpeakerEncoder
) -> float:
    # Unmarked and by no gate: what the voice says here is measured, and leaves no process.
    stored = await library.store.voices.get_blob(voice.tenant, voice.id, BlobKind.EMBEDDING)
    lease = await library.lease(
        tenant=voice.tenant, voice=voice.id, agent=scope.agents[0], purpose=scope.purposes[0]
    )
    try:
        return await likeness(lease, np.frombuffer(stored.data, np.float32), encoder)
    finally:
        lease.close()


def _figure(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _shown(item: Audited) -> dict[str, object]:
    return {
        "voice": item.voice,
        "name": item.name,
        "likeness": None if item.likeness is None else round(item.likeness, 4),
        "enrolled": None if item.enrolled is None else round(item.enrolled, 4),
        "passed": item.passed,
        "problems": item.problems,
        "notes": item.notes,
    }
