from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enrolment_audio import BODY, coded, read_out
from enrolment_desk import config_in
from speech import say

from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.voices.consent.challenge import IssuedChallenge
from ringtrue.voices.consent.errors import ChallengeError, ChallengeRefusal
from ringtrue.voices.encoder.speaker import SpeakerEncoder
from ringtrue.voices.engine import SPEECH_RATE, OnProgress, Progress, Speech
from ringtrue.voices.enrolment import desk as desk_module
from ringtrue.voices.enrolment.assessment import Assessment, AssessmentRequest
from ringtrue.voices.enrolment.audition import enrolled_likeness
from ringtrue.voices.enrolment.desk import MAX_ENROLMENTS, Enrolled, EnrolmentDesk
from ringtrue.voices.enrolment.errors import EnrolmentRefused, RecordingError
from ringtrue.voices.enrolment.findings import Check, Finding
from ringtrue.voices.enrolment.history import earlier
from ringtrue.voices.errors import CloningError, EngineBusyError, EngineStateError
from ringtrue.voices.ledger import Act, Deed
from ringtrue.voices.library import (
    Candidate,
    Statement,
    VoiceLibrary,
    VoiceNameError,
    open_library,
    utc_now,
)
from ringtrue.voices.licensing import ConsentRefusedError
from ringtrue.voices.store.errors import BlobNotFoundError, VoiceExistsError
from ringtrue.voices.store.profile import BlobKind, Lifecycle

TENANT, NAME, PURPOSE = "acme", "Ada Quillfeather", "reception of Example Ltd"
STATEMENT, SPEECH = b"the statement's file", b"the speech's file"


class SpokenStream:
    """Says each phrase with Flite's rms; ``mute`` says nothing."""

    def __init__(self, mute: bool) -> None:
        self._phrases: list[str] = []
        self._mute = mute

    def feed(self, phrase: str) -> None:
        self._phrases.append(phrase)

    def finish(self) -> None: ...

    def cut(self) -> None: ...

    async def frames(self) -> AsyncIterator[SpeechChunk]:
        for phrase in self._phrases:
            pcm = say(phrase, SPEECH_RATE, "rms")
            yield SpeechChunk((pcm * (not self._mute)).tobytes(), phrase_end=True)


@dataclass
class SpokenEngine:
    """Implements ``VoiceEngine``; its states are what it was told to make."""

    id: str = "spoken-1"
    state: bytes = b"state"
    heard: list[Speech] = field(default_factory=list)
    fails: BaseException | None = None
    waits: asyncio.Event | None = None

    async def warm(self) -> None: ...

    async def clone(self, speech: Speech, on_progress: OnProgress) -> bytes:
        self.heard.append(speech)
        on_progress(Progress(0.5, "fitting the voice"))
        if self.waits is not None:
            await self.waits.wait()
        if self.fails is not None:
            raise self.fails
        return self.state

    async def prepare(self, state: bytes) -> SpokenEngine:
        if state == b"broken":
            raise EngineStateError("broken")
        return replace(self, state=state)

    @property
    def speaks_markup(self) -> bool:
        return False

    def open(self, rate: int) -> SynthesisStream:
        return SpokenStream(self.state == b"mute")

    async def close(self) -> None: ...


@dataclass
class Assessor:
    """Finds what the test says."""

    speaker: Any
    refused: tuple[Check, ...] = ()
    fails: BaseException | None = None
    requests: list[AssessmentRequest] = field(default_factory=list)

    async def assess(self, request: AssessmentRequest, on_progress: OnProgress) -> Assessment:
        self.requests.append(request)
        on_progress(Progress(0.5, "checking the recordings"))
        if self.fails is not None:
            raise self.fails
        findings = tuple(
            Finding(check, check not in self.refused, 1.0, 0.5, f"{check} is bad")
            for check in Check
        )
        samples = np.zeros(SPEECH_RATE, np.float32)
        number = b"%d" % len(self.requests)
        return Assessment(findings, "i ada", samples, samples, self.speaker, (number,))


@dataclass
class Room:
    library: VoiceLibrary
    desk: EnrolmentDesk
    engine: SpokenEngine
    assessor: Assessor

    async def begin(self, **changes: Any) -> IssuedChallenge:
        values = {"name": NAME, "purpose": PURPOSE, "now": utc_now()} | changes
        return await self.desk.begin(TENANT, **values)

    async def enrol(self, token: str, **changes: Any) -> Enrolled:
        values: dict[str, Any] = {
            "name": NAME,
            "purpose": PURPOSE,
            "statement": STATEMENT,
            "speech": SPEECH,
            "engine": self.engine.id,
            "asked_by": "operator-7",
            "now": utc_now(),
        }
        return await self.desk.enrol(TENANT, token, **values | changes)

    async def enrolled(self) -> Enrolled:
        return await self.enrol((await self.begin()).token)

    async def renew(self, voice: str, token: str, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "name": NAME,
            "purpose": PURPOSE,
            "statement": STATEMENT,
            "asked_by": "operator-7",
            "now": utc_now(),
        }
        return await self.desk.renew(TENANT, voice, token, **values | changes)


@pytest.fixture(scope="module")
def speaker() -> Any:
    return SpeakerEncoder.load().embed(say(BODY, SPEECH_RATE, "rms"), SPEECH_RATE)


@pytest.fixture
async def room(tmp_path: Path, speaker: Any) -> AsyncIterator[Room]:
    engine, assessor = SpokenEngine(), Assessor(speaker)
    async with open_library(config_in(tmp_path), {engine.id: engine}) as library:
        yield Room(library, EnrolmentDesk(library, assessor=assessor), engine, assessor)


async def test_an_enrolment_ends_with_a_voice_that_may_and_does_speak(room: Room) -> None:
    issued = await room.begin()
    told: list[Progress] = []
    done = await room.enrol(issued.token, on_progress=told.append)
    assert done.voice.lifecycle is Lifecycle.LIVE
    assert done.voice.name == NAME
    assert {f.check for f in done.findings} == set(Check)
    assert done.similarity > 0.8
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == 1.0
    assert room.engine.heard[0].transcript == issued.challenge.text
    lease = await room.library.lease(
        tenant=TENANT, voice=NAME, agent="front", purpose=PURPOSE.upper()
    )
    lease.close()
    with pytest.raises(ConsentRefusedError):
        await room.library.lease(tenant=TENANT, voice=NAME, agent="front", purpose="other")


async def test_what_audits_compare_with_is_kept(room: Room) -> None:
    done = await room.enrolled()
    voices = room.library.store.voices
    assert await enrolled_likeness(voices, TENANT, done.voice.id) == done.similarity
    await voices.put_blob(TENANT, done.voice.id, "likeness", b"\0" * 8, utc_now())
    assert await enrolled_likeness(voices, TENANT, done.voice.id) == 0
    bare, _ = await room.library.admit(
        TENANT,
        Candidate("Bo", "en", room.engine.id, bytes(1024), b"state"),
        Statement("Bo", "I consent", "0" * 64, (PURPOSE,), "test"),
        utc_now(),
    )
    assert await enrolled_likeness(voices, TENANT, bare.id) is None


async def test_a_hosted_voice_is_kept_under_the_engine_that_speaks_it(room: Room) -> None:
    class Taking:
        """What an engine that is named with a voice gives."""

        id = room.engine.id
        clone = room.engine.clone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk_module, "choose_engine", lambda engines, name: Taking())
        token = (await room.begin()).token
        done = await room.enrol(token, engine="hosted:vendor:voice-7")
    assert done.voice.engine == room.engine.id


async def test_the_consent_says_what_was_said(room: Room) -> None:
    expires = utc_now() + timedelta(days=7)
    issued = await room.begin()
    done = await room.enrol(issued.token, agents=("front",), expires=expires)
    consent = done.consent
    assert consent.speaker == NAME
    assert consent.transcript == "i ada"
    assert consent.asked_by == "operator-7"
    assert consent.scope.agents == ("front",)
    assert consent.scope.purposes == (PURPOSE,)
    assert consent.scope.expires == expires


async def test_a_challenge_is_used_up_by_a_refusal(room: Room) -> None:
    issued = await room.begin()
    room.assessor.refused = (Check.NOISE, Check.REPLAY)
    noted: list[Deed] = []
    room.library.ledger.note = noted.append  # type: ignore[method-assign]
    with pytest.raises(EnrolmentRefused, match=r"noise is bad; replay is bad") as refused:
        await room.enrol(issued.token)
    assert [(deed.act, deed.detail["checks"]) for deed in noted] == [
        (Act.ENROLMENT_REFUSED, "noise, replay")
    ]
    assert [f.check for f in refused.value.failed] == [Check.NOISE, Check.REPLAY]
    assert len(refused.value.findings) == len(Check)
    room.assessor.refused = ()
    with pytest.raises(ChallengeError) as used:
        await room.enrol(issued.token)
    assert used.value.reason is ChallengeRefusal.USED
    assert not room.engine.heard
    assert await room.library.store.voices.list(TENANT) == ()


async def test_nothing_is_looked_at_without_a_challenge(room: Room) -> None:
    issued = await room.begin()
    late = utc_now() + timedelta(hours=2)
    for token, changes, reason in (
        ("no token", {}, ChallengeRefusal.MALFORMED),
        (issued.token, {"purpose": "something else"}, ChallengeRefusal.MISMATCH),
        (issued.token, {"name": "Bob"}, ChallengeRefusal.MISMATCH),
        (issued.token, {"now": late}, ChallengeRefusal.EXPIRED),
    ):
        with pytest.raises(ChallengeError) as refused:
            await room.enrol(token, **changes)
        assert refused.value.reason is reason
    assert not room.assessor.requests


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"engine": "nothing-1"}, CloningError),
        ({"name": "slt"}, VoiceNameError),
        ({"name": "Ольга"}, ValueError),
        ({"speech": b""}, RecordingError),
        ({"statement": bytes(13 * 1024 * 1024)}, RecordingError),
        ({"expires": utc_now() - timedelta(days=1)}, ValueError),
    ],
)
async def test_what_is_wrong_before_the_recordings_leaves_the_challenge(
    room: Room, changes: dict[str, Any], error: type[Exception]
) -> None:
    issued = await room.begin()
    with pytest.raises(error):
        await room.enrol(issued.token, **changes)
    assert (await room.enrol(issued.token)).voice.name == NAME


@pytest.mark.parametrize("name", ["slt", "Ольга", "v_" + "0" * 32, ""])
async def test_begin_refuses_names_that_cannot_be(room: Room, name: str) -> None:
    with pytest.raises((VoiceNameError, ValueError)):
        await room.begin(name=name)


async def test_a_name_that_is_taken_is_refused_before_the_challenge_is_used(room: Room) -> None:
    await room.enrolled()
    issued = await room.begin()
    with pytest.raises(VoiceExistsError):
        await room.enrol(issued.token)
    await room.library.erase(TENANT, NAME, utc_now())
    assert (await room.enrol(issued.token)).voice.name == NAME


Break = Callable[[Room, pytest.MonkeyPatch], None]


def _raises(*_: Any, **__: Any) -> Any:
    raise OSError("the disk is full")


def _in_store(part: str, method: str, after: int = 0) -> Break:
    def apply(room: Room, patch: pytest.MonkeyPatch) -> None:
        owner = getattr(room.library.store, part)
        original, calls = getattr(owner, method), iter(range(100))

        async def failing(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= after:
                raise OSError("the disk is full")
            return await original(*args, **kwargs)

        patch.setattr(owner, method, failing)

    return apply


def _state(state: bytes) -> Break:
    def apply(room: Room, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(room.engine, "state", state)

    return apply


STEPS: dict[str, tuple[Break, type[Exception]]] = {
    "assessing": (lambda r, p: p.setattr(r.assessor, "fails", OSError()), OSError),
    "reading": (lambda r, p: p.setattr(r.assessor, "fails", RecordingError("no")), RecordingError),
    "cloning": (lambda r, p: p.setattr(r.engine, "fails", CloningError("no")), CloningError),
    "creating": (_in_store("voices", "create"), OSError),
    "first blob": (_in_store("voices", "put_blob"), OSError),
    "second blob": (_in_store("voices", "put_blob", 1), OSError),
    "fingerprints": (_in_store("voices", "put_blob", 2), OSError),
    "consent": (_in_store("consents", "add"), OSError),
    "going live": (_in_store("voices", "set_lifecycle"), OSError),
    "preparing": (_state(b"broken"), EngineStateError),
    "hearing": (_state(b"mute"), CloningError),
    "keeping the figure": (_in_store("voices", "put_blob", 3), OSError),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_at_any_step_leaves_nothing(room: Room, step: str) -> None:
    break_it, error = STEPS[step]
    with pytest.MonkeyPatch.context() as patch:
        break_it(room, patch)
        with pytest.raises(error):
            await room.enrolled()
    assert await room.library.store.voices.list(TENANT) == ()
    assert await earlier(room.library.store.voices, TENANT) == ()
    assert (await room.enrolled()).voice.name == NAME


async def test_cancelling_leaves_nothing(room: Room) -> None:
    room.engine.waits = asyncio.Event()
    task = asyncio.create_task(room.enrolled())
    while not room.engine.heard:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await room.library.store.voices.list(TENANT) == ()


async def test_what_a_crash_left_half_stored_makes_room(room: Room) -> None:
    voices = room.library.store.voices
    old = utc_now() - timedelta(minutes=11)
    half = await voices.create(TENANT, name=NAME, language="en", engine="spoken-1", now=old)
    assert (await room.enrolled()).voice.id != half.id


async def test_too_many_at_once_are_refused_and_keep_their_challenges(room: Room) -> None:
    room.engine.waits = asyncio.Event()
    tokens = [(await room.begin(name=f"Voice {n}")).token for n in range(MAX_ENROLMENTS + 1)]
    tasks = [
        asyncio.create_task(room.enrol(token, name=f"Voice {n}"))
        for n, token in enumerate(tokens[:-1])
    ]
    while len(room.engine.heard) < MAX_ENROLMENTS:
        await asyncio.sleep(0.01)
    with pytest.raises(EngineBusyError, match="5 enrolments are under way"):
        await room.enrol(tokens[-1], name=f"Voice {MAX_ENROLMENTS}")
    room.engine.waits.set()
    await asyncio.gather(*tasks)
    assert (await room.enrol(tokens[-1], name=f"Voice {MAX_ENROLMENTS}")).voice is not None


async def test_accepted_recordings_are_held_against_later_ones(room: Room) -> None:
    await room.enrolled()
    await room.enrol((await room.begin(name="Bob")).token, name="Bob")
    assert [r.earlier for r in room.assessor.requests] == [(), (b"1",)]


@pytest.mark.parametrize("keep", [False, True])
async def test_recordings_are_kept_only_where_the_configuration_says(
    tmp_path: Path, speaker: Any, keep: bool
) -> None:
    engine = SpokenEngine()
    config = config_in(tmp_path, keep_recordings=keep)
    async with open_library(config, {engine.id: engine}) as library:
        room = Room(library, EnrolmentDesk(library, assessor=Assessor(speaker)), engine, None)  # type: ignore[arg-type]
        voice = (await room.enrolled()).voice
        for kind, data in (
            (BlobKind.STATEMENT_AUDIO, STATEMENT),
            (BlobKind.ENROLMENT_AUDIO, SPEECH),
        ):
            if keep:
                assert (await library.store.voices.get_blob(TENANT, voice.id, kind)).data == data
            else:
                with pytest.raises(BlobNotFoundError):
                    await library.store.voices.get_blob(TENANT, voice.id, kind)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert STATEMENT not in path.read_bytes()


async def test_a_renewal_takes_the_place_of_the_consent_for_its_purpose(room: Room) -> None:
    done = await room.enrolled()
    issued = await room.begin()
    consent = await room.renew(done.voice.id, issued.token)
    assert consent.supersedes == done.consent.serial
    request = room.assessor.requests[-1]
    assert request.speech is None
    assert request.voiceprint == np.asarray(room.assessor.speaker, "<f4").tobytes()
    assert request.earlier == (b"1",)
    assert await earlier(room.library.store.voices, TENANT) == (b"1", b"2")


async def test_a_renewal_for_another_purpose_stands_beside_the_first(room: Room) -> None:
    done = await room.enrolled()
    issued = await room.begin(purpose="bedtime stories")
    consent = await room.renew(done.voice.id, issued.token, purpose="bedtime stories")
    assert consent.supersedes is None
    for purpose in (PURPOSE, "bedtime stories"):
        decision = await room.library.decide(
            tenant=TENANT, voice=done.voice.id, agent="front", purpose=purpose
        )
        assert decision.allowed


async def test_a_refused_renewal_changes_nothing(room: Room) -> None:
    done = await room.enrolled()
    issued = await room.begin()
    room.assessor.refused = (Check.SPEAKER,)
    with pytest.raises(EnrolmentRefused):
        await room.renew(done.voice.id, issued.token)
    given, _ = await room.library.store.consents.records(TENANT, done.voice.id)
    assert [signed.record.serial for signed in given] == [done.consent.serial]
    with pytest.raises(ChallengeError):
        await room.renew(done.voice.id, issued.token)


async def test_a_withdrawn_voice_is_live_again_after_a_renewal(room: Room) -> None:
    done = await room.enrolled()
    now = utc_now()
    await room.library.withdraw(TENANT, done.voice.id, asked_by="ada", now=now)
    issued = await room.begin()
    later = now + timedelta(seconds=1)
    await room.renew(done.voice.id, issued.token, now=later)
    assert (await room.library.find(TENANT, NAME)).lifecycle is Lifecycle.LIVE


async def test_a_synthetic_speaker_is_refused_by_the_real_checks(tmp_path: Path) -> None:
    engine = SpokenEngine()
    async with open_library(config_in(tmp_path), {engine.id: engine}) as library:
        desk = EnrolmentDesk(library)
        now: datetime = utc_now()
        issued = await desk.begin(TENANT, name="Ada", purpose=PURPOSE, now=now)
        with pytest.raises(EnrolmentRefused) as refused:
            await desk.enrol(
                TENANT,
                issued.token,
                name="Ada",
                purpose=PURPOSE,
                statement=coded(read_out(issued.challenge.text)),
                speech=coded(read_out(BODY)),
                engine=engine.id,
                asked_by="test",
                now=now,
            )
        by_check = {f.check: f for f in refused.value.findings}
        assert set(by_check) == set(Check)
        assert by_check[Check.WORDING].passed, by_check[Check.WORDING]
        assert by_check[Check.SPEAKER].passed
        assert not by_check[Check.SYNTHESIS].passed
        assert not engine.heard
        assert await library.store.voices.list(TENANT) == ()
