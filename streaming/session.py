"""One call between its leg and its graph: what happens to it every 20 ms.

The media clock calls :meth:`CallSession.tick_in` and :meth:`CallSession.tick_out`; nothing in
them waits. Caller audio leaves in blocks for the graph through a bounded queue (overflow drops
the oldest block and counts it); agent audio comes from playout and passes the gate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pipecat.frames.frames import Frame, TextFrame

from ringtrue.streaming.bridge import Bridge, Seat
from ringtrue.streaming.budget.keeper import BudgetKeeper
from ringtrue.streaming.budget.silence import SilenceMeter
from ringtrue.streaming.drafts import Draft, Ticket
from ringtrue.streaming.echo.guard import EchoGuard
from ringtrue.streaming.gate import (
    FrameKind,
    Gate,
    GatePolicy,
    UtteranceDigest,
    VoiceWatch,
    Watermarker,
)
from ringtrue.streaming.hold import HoldMusic
from ringtrue.streaming.output import PlayoutOutput
from ringtrue.streaming.playout import Playout
from ringtrue.streaming.playout_steps import Cut
from ringtrue.streaming.ports import FRAME_MS, Confirming, Holdable, MediaLeg, frame_bytes
from ringtrue.streaming.provenance import Chunk, Lane, Sealer
from ringtrue.streaming.record import CallRecord, Stage, TurnLog, TurnRecord
from ringtrue.streaming.recording import StereoTap
from ringtrue.streaming.refusals import OnRefusal

BLOCK_FRAMES: Final = 3
"""Frames handed to the graph at once: 60 ms."""

LOOK_BLOCKS: Final = 16
"""Blocks between two looks at the leg's counters, while none waits: its buffer changes slowly."""

MAX_BLOCKS: Final = 17
"""Blocks that may wait for the graph: one second."""

# Members of an enumeration are looked up by name each time; these are not.
_SILENCE: Final = FrameKind.SILENCE
_SPEECH: Final = FrameKind.SPEECH
_RELAY: Final = FrameKind.RELAY


class CallSession:
    """Leg, playout, gate and record of one call."""

    __slots__ = (
        "_block", "_block_bytes", "_blocks", "_confirming", "_eager", "_echo", "_guest", "_hear",
        "_holdable", "_leg", "_meter", "_music", "_on_digest", "_on_digit", "_on_hold", "_on_sound",
        "_paused", "_queued", "_relay", "_resting", "_seat", "_silence", "_spoken",
        "_takes_part", "_tap", "_waiter", "_wants_music", "ending", "gate", "output", "playout",
        "record", "turns", "__weakref__",
    )  # fmt: skip

    def __init__(
        self,
        leg: MediaLeg,
        record: CallRecord,
        *,
        hear: Callable[[bytes], Awaitable[None]],
        on_digit: Callable[[str], Awaitable[None]],
        on_heard: Callable[[Frame], Awaitable[None]] | None = None,
        on_silence: Callable[[bool], None] | None = None,
        on_turn: Callable[[TurnRecord], None] | None = None,
        on_digest: Callable[[UtteranceDigest], None] | None = None,
        on_refusal: OnRefusal | None = None,
        on_message: Callable[[Any], None] | None = None,
        policy: GatePolicy | None = None,
        watermarker: Watermarker | None = None,
        watch: VoiceWatch | None = None,
        tap: StereoTap | None = None,
        keeper: BudgetKeeper | None = None,
        echo: EchoGuard | None = None,
        on_sound: Callable[[bytes], None] | None = None,
        eager: Callable[[], bool] = lambda: False,
    ) -> None:
        """Join ``leg`` to a graph.

        ``hear`` takes blocks of caller PCM, ``on_digit`` each DTMF digit, ``on_heard`` frames as
        the caller hears them, ``on_silence`` that the agent stopped (True: interrupted),
        ``on_refusal`` what the gate refused. ``watch`` listens to the call's cloned voice,
        ``tap`` takes both sides for the call's recording. ``keeper`` keeps turns to their budget.
        ``echo`` takes the agent's voice out of what comes back. ``on_sound`` is given every frame
        of the far end's, as it came; ``eager`` says that ``hear`` would have each frame at once.
        """
        self._leg = leg
        self._tap = tap
        self._echo = echo
        self._on_sound = on_sound
        self._eager = eager
        self.record = record
        self._hear = hear
        self._on_digit = on_digit
        self._on_digest = on_digest
        budget = None if keeper is None else keeper.policy.budget
        self.turns = TurnLog(record, budget=budget, on_turn=on_turn)
        self._meter = SilenceMeter(self.turns.silent)
        if keeper is not None:
            keeper.attach(self.turns, self._meter)
        self.playout: Playout[Frame] = Playout(leg.rate)
        self.gate = Gate(
            record.call_id,
            leg.rate,
            opened_at=record.answered_at,
            last_heard=leg.last_heard,
            policy=policy,
            watermarker=watermarker,
            watch=watch,
            on_digest=self._digested,
            on_refusal=on_refusal,
        )
        record.watermark = self.gate.watermark
        self.output = PlayoutOutput(
            self.playout,
            on_cut=self._cut,
            on_taken_back=self._taken_back,
            heard_position=leg.heard_position,
            probe=self.probe,
            tones=lambda: self.gate.provenance.utterance(Lane.TONES),
            on_heard=on_heard,
            on_silence=on_silence,
            on_message=on_message,
        )
        self.ending = False
        """Set once the call is being taken down: what is cut from then on is no barge-in."""

        self._holdable = leg if isinstance(leg, Holdable) else None
        self._confirming = leg if isinstance(leg, Confirming) else None
        self._on_hold = self._wants_music = self._resting = False
        self._paused = False
        self._music: tuple[HoldMusic, Sealer, Ticket] | None = None
        self._seat: Seat | None = None
        self._takes_part = False
        self._guest: tuple[int, Sealer, Ticket] | None = None
        """What the agent of another call says here: its utterance's number there."""

        self._relay = self.gate.provenance.relay()
        self._silence = bytes(frame_bytes(leg.rate))
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._blocks: deque[bytes | str] = deque()
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        """Ends :meth:`feed`'s waiting; an event of asyncio's takes three times as long."""

        self._spoken = 0

    def probe(self, stage: Stage, at: float | None = None) -> None:
        """Report a moment of the turn; now, unless ``at`` says when."""
        moment = asyncio.get_running_loop().time() if at is None else at
        self.turns.report(stage, moment)

    @property
    def held(self) -> bool:
        """The far end holds us, or we hold it, or it talks to others: nothing is said, and
        nothing heard is meant."""
        left_alone = self._seat is not None and not self._takes_part
        held = self._holdable is not None and self._holdable.held
        return self._on_hold or left_alone or held

    def join(self, bridge: Bridge, *, agent: bool = False) -> None:
        """Let the far end hear, and be heard by, those of the calls in ``bridge``.

        ``agent`` says whether this call's own agent takes part: hears all of them, and is heard
        by all. Else its conversation rests until :meth:`part`. Raises ``ValueError`` where the
        bridge is full.
        """
        gate = self.gate
        if self._seat is None:
            self._seat = bridge.seat(
                gate.call_id, self._leg.rate, lambda now: gate.up and gate.far_end(now)
            )
            self._said_before()
        self._takes_part = agent

    def _said_before(self) -> None:
        """What the far end said before the bridge is heard now, not when it leaves."""
        held = b"" if self._echo is None else self._echo.release()
        self._gather(bytes(len(held)) if self._resting else held)
        if self._block_bytes:
            self._hand_over()

    def part(self) -> None:
        """Leave the bridge; the conversation goes on where it rested. Idempotent."""
        if self._seat is None:
            return
        self._seat.leave()
        self._seat, self._guest = None, None
        self.gate.end_utterance()
        if self.playout.speaking:
            self.playout.reopen(self.gate.open_utterance)

    @property
    def bridged(self) -> bool:
        """The far end talks to those of other calls."""
        return self._seat is not None

    @property
    def waiting(self) -> float:
        """Seconds of caller audio that wait for the graph."""
        return len(self._blocks) * BLOCK_FRAMES * FRAME_MS / 1000

    def hold(self, on: bool, *, music: bool = True) -> None:
        """Let the call rest, or go on where it stopped, to the sample.

        The far end hears music meanwhile, or silence. That it is on hold is for its transport to
        say; where the far end holds us, the call rests by itself.
        """
        self._on_hold, self._wants_music = on, on and music

    def tick_in(self, now: float) -> None:
        """Pull 20 ms from the leg; on hold, what the far end plays is not for the agent."""
        inbound = self._leg.pull(now)
        self._rest(now)
        seat, heard = self._seat, inbound.pcm
        if inbound.digits and (seat is None or self._takes_part):
            for digit in inbound.digits:
                self._queue(digit)
        if self._on_sound is not None:
            self._on_sound(heard)
        if self._echo is not None and seat is None:
            heard = self._echo.heard(heard)
        pcm = heard if not self._resting else bytes(len(heard))
        if self._tap is not None:
            self._tap.heard(
                self._silence if self._resting and seat is None else inbound.pcm, inbound.digits
            )
        if seat is not None:
            seat.put(inbound.pcm, now)
            if not self._takes_part:
                return
            pcm = pcm if self._resting else seat.room(pcm, now)
        self._gather(pcm)
        gathered = self._block_bytes
        if gathered >= BLOCK_FRAMES * len(self._silence) or (gathered and self._eager()):
            self._hand_over()

    def _gather(self, pcm: bytes) -> None:
        self._block.append(pcm)
        self._block_bytes += len(pcm)

    def _hand_over(self) -> None:
        """What was gathered is for the graph."""
        self._queue(b"".join(self._block))
        self._block.clear()
        self._block_bytes = 0

    def tick_out(self, now: float) -> None:
        """Send 20 ms through the gate to the leg."""
        heard = self._leg.heard_position()
        if self._resting:
            step = self.playout.rest(heard)
            step.draft = self._on_hold_draft(now)
        else:
            step = self.playout.take(now, self.gate.open_utterance, heard)
        relayed = None if self._seat is None else self._relayed(self._seat, now)
        frame = self.gate.admit(step.draft, now, relayed)
        audible = frame.kind not in (_SILENCE, _RELAY)
        if step.began is not None:
            self._spoken = 0
        first = audible and not self._spoken and not self._resting
        if first:
            self.turns.report(Stage.FIRST_SEALED, self._moment(now))
        self._leg.send(frame, now)
        if self._echo is not None:
            self._echo.sent(frame.pcm)
        if self._tap is not None:
            self._tap.sent(frame.pcm, now)
        if self._resting:
            self._meter.rest(now)
            self.output.step(step)
            return
        if first:
            self.turns.report(Stage.FIRST_PACKET, self._moment(now))
        self._meter.tick(now, audible, began=first)
        if self._seat is not None and frame.kind is _SPEECH:
            self._share(self._seat, step.draft, now)
        if step.began is not None:
            waited = (now - (step.draft.made_at or now)) * 1000
            self.record.standing_delay_out_ms = max(self.record.standing_delay_out_ms, waited)
        if audible:
            self._spoken += len(frame.pcm) // 2
        elif step.draft.ticket is not None:  # refused by the gate: nobody heard these words
            step.heard = [mark for mark in step.heard if not isinstance(mark, TextFrame)]
        if step.ended is not None:
            self.gate.end_utterance()
            self.turns.heard(self._spoken)
        self.output.step(step)

    @staticmethod
    def _moment(now: float) -> float:
        """When what belongs to the tick at ``now`` really happens: a tick may be late."""
        return max(now, asyncio.get_running_loop().time())

    def _rest(self, now: float) -> None:
        """Notice that the call was put on hold, or taken off it, and that speech is paused."""
        held = self.held
        paused = self.playout.paused and not held
        if paused is not self._paused:
            self._paused = paused
            (self.gate.rest if paused else self.gate.wake)(now, ends=False)
            if paused:
                self._withdraw(now)
        if held and not self._resting:
            self.gate.rest(now)
        elif self._resting and not held:
            self.gate.wake(now)
            self.playout.reopen(self.gate.open_utterance)
        self._resting = held
        if self._wants_music and self._music is None:
            sealer = self.gate.provenance.utterance(Lane.HOLD)
            self._music = HoldMusic(self._leg.rate), sealer, self.gate.open_utterance()
        elif self._music is not None and not self._wants_music:
            self._music = None
            if held:
                self.gate.end_utterance()

    def _withdraw(self, now: float) -> None:
        """Speech is paused: what the far end has not played of it, it shall not; it is sent again
        afterwards, from that sample on."""
        played = None if self._confirming is None else self._confirming.played_by(now)
        pieces = [] if played is None else self.playout.rewind(played)
        if not pieces:
            return
        self.gate.give_back(pieces)
        self._clear(now)
        self._spoken -= sum(piece.stop - piece.start for piece in pieces) // 2

    def _clear(self, now: float) -> None:
        """Have the far end drop what it has not played; the recording has nothing of that."""
        played = None if self._confirming is None else self._confirming.played_by(now)
        if played is not None and self._tap is not None:
            self._tap.unheard(self.playout.position - played)
        self._leg.clear()

    def _relayed(self, seat: Seat, now: float) -> Chunk | None:
        """What the far ends of bridged calls say, sealed for this one."""
        others = seat.others(now)
        return None if others is None else self._relay.seal(others.pcm, now, others)

    def _share(self, seat: Seat, draft: Draft, now: float) -> None:
        """What the agent says here is for the bridged calls too; each marks it for itself."""
        assert draft.ticket is not None
        assert draft.made_at is not None
        seat.share(
            draft.pcm(len(self._silence)), draft.licence, draft.made_at, draft.ticket.utterance, now
        )

    def _shared(self, seat: Seat, now: float) -> Draft:
        """What the agent of a bridged call says, sealed for this one."""
        share = seat.shared(now)
        if share is None:
            if self._guest is not None:
                self._guest = None
                self.gate.end_utterance()
            return Draft()
        if self._guest is None or self._guest[0] != share.utterance:
            sealer = self.gate.provenance.utterance()
            self._guest = share.utterance, sealer, self.gate.open_utterance()
        _, sealer, ticket = self._guest
        return Draft.whole(ticket, sealer.seal(share.pcm, share.made_at, licence=share.licence))

    def _on_hold_draft(self, now: float) -> Draft:
        """20 ms of music, or of silence; of what another call's agent says, where bridged."""
        if self._seat is not None:
            return self._shared(self._seat, now)
        if self._music is None:
            return Draft()
        music, sealer, ticket = self._music
        return Draft.whole(ticket, sealer.seal(music.next(), now, kind=FrameKind.TONE))

    async def feed(self) -> None:
        """Carry blocks and digits to the graph until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._blocks:
                self._waiter = loop.create_future()
                await self._waiter
                self._waiter = None
            while self._blocks:
                item = self._blocks.popleft()
                if isinstance(item, str):
                    await self._on_digit(item)
                else:
                    await self._hear(item)

    def close(self, now: float, outcome: str) -> None:
        """The call is over: shut the gate and complete the record."""
        self.gate.close()
        self.turns.close()
        self.record.ended_at = now
        self.record.outcome = outcome
        self.record.underruns = self.playout.underruns
        self.record.refused = {
            str(reason): count for reason, count in self.gate.stats.refused.items()
        }
        self.record.frames_sealed = self.gate.stats.sealed
        stats = self._leg.stats
        self.record.packets_received = stats.packets_received
        self.record.packets_lost = stats.packets_lost
        self.record.packets_late = stats.packets_late
        self.record.frames_concealed = stats.frames_concealed
        self.record.jitter_ms = stats.jitter_ms
        self.record.media = dict(stats.extra)
        if stats.round_trip_ms is not None:
            self.record.media["round_trip_ms"] = stats.round_trip_ms
        if self._echo is not None:
            self.record.media |= self._echo.stats.as_dict()

    def release(self) -> None:
        """Let go of leg, graph and buffers: nothing of it can be used any more.

        Compiled, attributes can't be deleted: what refers to itself goes with the next collection.
        """
        for name in getattr(type(self), "__slots__", ()):
            if name != "__weakref__" and hasattr(self, name):
                delattr(self, name)

    def _queue(self, item: bytes | str) -> None:
        if len(self._blocks) >= MAX_BLOCKS:
            # A key pressed is worth more than 60 ms of audio.
            audio = next((n for n, it in enumerate(self._blocks) if isinstance(it, bytes)), 0)
            del self._blocks[audio]
            self.record.inbound_dropped += 1
        self._blocks.append(item)
        self._queued += 1
        if len(self._blocks) > 1 or self._queued % LOOK_BLOCKS == 1:
            waiting = self.waiting * 1000 + self._leg.stats.jitter_buffer_ms
            self.record.standing_delay_in_ms = max(self.record.standing_delay_in_ms, waiting)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cut(self, cut: Cut[Frame]) -> None:
        self.gate.cut()
        self._music = None  # its ticket is gone too
        self._clear(asyncio.get_running_loop().time())
        if cut.label is None:
            return
        if self.ending:
            self.turns.heard(cut.heard_samples)
        else:
            now = asyncio.get_running_loop().time()
            stopped_at = now if cut.paused_at is None else cut.paused_at
            self.turns.interrupted(stopped_at, cut.heard_samples)

    def _taken_back(self, cut: Cut[Frame]) -> None:
        if cut.label is None:
            return
        self.gate.end_utterance()
        self._music = None
        self._clear(asyncio.get_running_loop().time())
        self.turns.heard(cut.heard_samples)

    def _digested(self, digest: UtteranceDigest) -> None:
        self.record.digests.append(digest.chain)
        if self._on_digest is not None:
            self._on_digest(digest)
