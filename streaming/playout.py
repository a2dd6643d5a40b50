"""The playout buffer: what the agent is about to say, cut to the sample.

Utterances are queued in order and drained 20 ms a tick. The cursor counts samples handed to the
gate, so on barge-in it is known exactly what went out. Text (and any other frame that must keep
its place) rides along as marks, released once their last sample has been heard.

Overflow policy: :meth:`Playout.write` refuses audio beyond ``max_seconds`` and the writer waits;
nothing that was accepted is dropped except by :meth:`Playout.cut`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ringtrue.streaming.drafts import Draft, Piece, Ticket, piece_of
from ringtrue.streaming.gate import licence_holds
from ringtrue.streaming.playout_steps import Cut, Step, Utterance
from ringtrue.streaming.ports import frame_bytes, frame_samples
from ringtrue.streaming.provenance import Chunk, FrameKind, Sealer
from ringtrue.streaming.tones import dtmf_frames
from ringtrue.streaming.unheard import Unheard, without_first

MarkT = TypeVar("MarkT")

MAX_SECONDS: Final = 60.0
"""Audio that may wait in one call's buffer; about 1 MB at 8 kHz."""

MAX_PAUSED: Final = 250
"""Ticks of one pause: five seconds, far from the age at which the gate refuses audio."""


class Playout(Generic[MarkT]):
    """One call's playout buffer at ``rate`` Hz. Sans-IO: times come from the caller."""

    __slots__ = (
        "_frame_bytes", "_frame_samples", "_max_bytes", "_paused_at", "_paused_ticks",
        "_pending", "_position", "_queue", "_sent", "_spoken_to", "_unheard", "rate",
        "underruns", "withheld",
    )  # fmt: skip

    def __init__(self, rate: int, *, max_seconds: float = MAX_SECONDS) -> None:
        """``max_seconds`` bounds the audio waiting over all queued utterances."""
        self.rate = rate
        self._frame_samples = frame_samples(rate)
        self._frame_bytes = frame_bytes(rate)
        self._max_bytes = int(max_seconds * rate) * 2
        self._queue: deque[Utterance[MarkT]] = deque()
        self._pending = 0
        self._position = 0
        self._sent: deque[tuple[int, MarkT]] = deque()
        self.underruns = 0
        """Ticks of silence inside utterances, between two pieces of their audio."""

        self.withheld = 0
        """Ticks in a row in which what is next was not taken, its licence not holding."""

        self._paused_at: float | None = None
        self._spoken_to = 0  # position after what was taken last; pauses come after it
        self._paused_ticks = 0
        self._unheard = Unheard()  # kept only where the far end tells what it has played

    @property
    def position(self) -> int:
        """Samples taken since the call began, silence included."""
        return self._position

    @property
    def pending_seconds(self) -> float:
        """Audio waiting, over all queued utterances."""
        return self._pending / (2 * self.rate)

    @property
    def speaking(self) -> bool:
        """True while an utterance has begun and not ended."""
        return bool(self._queue) and self._queue[0].ticket is not None

    @property
    def idle(self) -> bool:
        """True when nothing is queued and every mark has been released."""
        return not self._queue and not self._sent

    @property
    def paused(self) -> bool:
        """True from :meth:`pause` to :meth:`resume`, or until :data:`MAX_PAUSED` has passed."""
        return self._paused_at is not None

    def pause(self, now: float) -> bool:
        """Take nothing from the next tick on. False, and nothing changes, where no speech sounds.

        Tones and digits dialled are not paused: they mean something by their length.
        """
        if self._paused_at is not None:
            return True
        if not self.speaking:
            return False
        chunks = self._queue[0].chunks
        if chunks and chunks[0].kind is not FrameKind.SPEECH:
            return False
        self._paused_at, self._paused_ticks = now, 0
        return True

    def resume(self) -> None:
        """Go on at the next sample."""
        self._paused_at = None

    def rewind(self, position: int) -> list[Piece]:
        """While paused: give back what went out of the utterance from ``position`` on.

        The far end has dropped it unheard; it is what is taken next after the pause, and its marks
        wait again. Returns its pieces in order; none, and nothing changes, where nothing is known
        to be unheard, or not all of it is of the utterance in progress.
        """
        if not (self.paused and self.speaking):
            return []
        utterance = self._queue[0]
        self._unheard.played(position)
        pieces = self._unheard.pieces(utterance.ticket)
        if not pieces:
            return []
        pieces = without_first(pieces, position - self._unheard.begins)
        while self._sent and self._sent[-1][0] > position:
            place = self._unheard.place(self._sent[-1][0])
            if place is None:
                break
            utterance.marks.appendleft((place, self._sent.pop()[1]))
        for piece in reversed(pieces):
            if not utterance.chunks or utterance.chunks[0] is not piece.chunk:
                utterance.chunks.appendleft(piece.chunk)
            utterance.offset = piece.start
        given = sum(piece.stop - piece.start for piece in pieces)
        utterance.pending += given
        utterance.taken -= given // 2
        self._pending += given
        self._spoken_to = min(self._spoken_to, position)
        self._unheard.clear()
        return pieces

    def has_room(self) -> bool:
        """True while :meth:`write` will accept audio."""
        return self._pending < self._max_bytes

    def begin(self, label: str) -> None:
        """Queue a new utterance behind the ones waiting; the one before it is finished."""
        if self._queue:
            self._queue[-1].finished = True
        self._queue.append(Utterance(label))

    def write(self, chunk: Chunk) -> bool:
        """Append a chunk to the newest utterance. False, and nothing taken, when full.

        A cloned voice's waits while its licence doesn't hold. Whether it may be heard at all is
        the gate's to say. Raises ``ValueError`` for half a sample or when no utterance is open.
        """
        if len(chunk.pcm) % 2:
            raise ValueError(f"PCM must be whole 16-bit samples, got {len(chunk.pcm)} bytes")
        utterance = self._open()
        if not self.has_room():
            return False
        if chunk.pcm:
            self._append(utterance, chunk)
            utterance.licensed = utterance.licensed or chunk.licence is not None
        return True

    def write_digits(self, digits: str, now: float, sealer: Sealer) -> None:
        """Queue DTMF ``digits`` (``0-9*#A-D``) as an utterance of its own.

        An utterance still being written goes on behind them. Raises ``ValueError`` naming a digit
        that is none.
        """
        frames = dtmf_frames(digits, self.rate)
        divided = self._queue[-1] if self._queue and not self._queue[-1].finished else None
        self.begin(f"dtmf:{len(digits)}")
        utterance = self._queue[-1]
        for pcm, event in frames:
            kind = FrameKind.DIGIT if event is not None else FrameKind.TONE
            self._append(utterance, sealer.seal(pcm, now, kind=kind, digit=event))
        utterance.finished = True
        if divided is not None:
            self.begin(divided.label)
            self._queue[-1].base = divided.base + divided.written

    def mark(self, mark: MarkT, *, at: int | None = None) -> bool:
        """Release ``mark`` once the newest utterance was heard up to ``at`` (default: all written).

        ``at`` is in samples from the utterance's start. False when nothing is queued or awaiting
        its release, so that the caller may act on the mark at once.
        """
        if not self._queue:
            if not self._sent:
                return False
            self._sent.append((self._sent[-1][0], mark))
            return True
        utterance = self._queue[-1]
        position = utterance.written if at is None else max(0, at - utterance.base)
        if utterance.marks:
            position = max(position, utterance.marks[-1][0])
        utterance.marks.append((position, mark))
        return True

    def finish(self) -> None:
        """The newest utterance is complete."""
        if self._queue:
            self._queue[-1].finished = True

    def cut(self, heard_position: int | None = None) -> Cut[MarkT]:
        """Drop everything not yet taken; ``heard_position`` as in :meth:`take`."""
        heard = self._release(heard_position)
        unheard = [mark for _, mark in self._sent]
        label: str | None = None
        waiting = self._waiting(heard_position)
        taken = dropped = 0
        for index, utterance in enumerate(self._queue):
            if index == 0 and utterance.ticket is not None:
                label, taken = utterance.label, max(0, utterance.taken - waiting)
            unheard.extend(mark for _, mark in utterance.marks)
            dropped += utterance.pending // 2
        self._queue.clear()
        self._sent.clear()
        self._unheard.clear()
        self._pending = 0
        paused_at, self._paused_at = self._paused_at, None
        return Cut(tuple(heard), tuple(unheard), taken, dropped, label, paused_at)

    def _waiting(self, heard_position: int | None) -> int:
        """Samples of what was taken that the far end has not confirmed yet."""
        return 0 if heard_position is None else max(0, self._spoken_to - heard_position)

    def take_back(self, heard_position: int | None = None) -> Cut[MarkT]:
        """Drop what a cloned voice has said and nobody heard yet; other audio stays.

        An utterance still without audio goes too. ``heard_position`` as in :meth:`take`;
        ``label`` of what returns is None unless the utterance in progress was dropped.
        """
        heard = self._release(heard_position)
        unheard = [mark for _, mark in self._sent]
        self._sent.clear()
        label: str | None = None
        waiting = self._waiting(heard_position)
        taken = dropped = 0
        kept: deque[Utterance[MarkT]] = deque()
        for index, utterance in enumerate(self._queue):
            if not utterance.licensed and utterance.written:
                kept.append(utterance)
                continue
            if index == 0 and utterance.ticket is not None:
                label, taken = utterance.label, max(0, utterance.taken - waiting)
            unheard.extend(mark for _, mark in utterance.marks)
            dropped += utterance.pending // 2
            self._pending -= utterance.pending
        self._queue = kept
        self._unheard.clear()
        self.withheld = 0
        return Cut(tuple(heard), tuple(unheard), taken, dropped, label)

    def take(
        self, now: float, open_ticket: Callable[[], Ticket], heard_position: int | None = None
    ) -> Step[MarkT]:
        """The next 20 ms.

        ``open_ticket`` is called when an utterance begins (the gate's ``open_utterance``).
        ``heard_position`` is what the far end confirms as played, in samples since the call
        began; None means that what was taken counts as heard.
        """
        plain = self._plain(heard_position)
        if plain is not None:
            return plain
        late = self._ended_late()
        if late is None and self._stays_paused():
            return self._pause(None, heard_position, None)
        utterance = None if late is not None else self._current()
        if utterance is None or not self._ready(utterance):
            return self._pause(utterance, heard_position, late)
        licence = utterance.chunks[0].licence
        if licence is not None and not licence_holds(licence, now):
            self.withheld += 1
            return self._pause(utterance, heard_position, late)
        self.withheld = 0
        self.underruns += utterance.starved
        utterance.starved = 0
        began = None
        if utterance.ticket is None:
            utterance.ticket = open_ticket()
            began = utterance.label
        offset = utterance.taken
        pieces = self._draw(utterance)
        start = self._position
        self._position += self._frame_samples
        ended = None
        while utterance.marks and utterance.marks[0][0] <= utterance.taken:
            place, mark = utterance.marks.popleft()
            self._sent.append((start + self._frame_samples - (utterance.taken - place), mark))
        if utterance.finished and not utterance.pending:
            ended = utterance.label
            self._sent.extend((self._position, mark) for _, mark in utterance.marks)
            self._queue.popleft()
        self._spoken_to = self._position
        draft = Draft(utterance.ticket, pieces)
        if heard_position is not None:
            self._unheard.played(heard_position)
            self._unheard.sent(draft, start, offset)
        return Step(draft, self._release(heard_position), began, ended)

    def _plain(self, heard_position: int | None) -> Step[MarkT] | None:
        """The step from amid a chunk of a stock voice, where it changes nothing but positions.

        Nearly every step of a call; None where :meth:`take` has more to look at.
        """
        if heard_position is not None or not self._queue or self._paused_at is not None:
            return None
        utterance = self._queue[0]
        if utterance.ticket is None or not utterance.chunks or utterance.starved or self._sent:
            return None
        chunk, start = utterance.chunks[0], utterance.offset
        stop, taken = start + self._frame_bytes, utterance.taken + self._frame_samples
        if stop >= len(chunk.pcm) or chunk.licence is not None:
            return None
        if utterance.marks and utterance.marks[0][0] <= taken:
            return None
        self.withheld = 0
        utterance.offset, utterance.taken = stop, taken
        utterance.pending -= self._frame_bytes
        self._pending -= self._frame_bytes
        self._position += self._frame_samples
        self._spoken_to = self._position
        return Step(Draft(utterance.ticket, (piece_of(chunk, start, stop),)), [])

    def _stays_paused(self) -> bool:
        """Whether nothing is taken in this tick; a pause that nobody ends is ended here."""
        if self._paused_at is None:
            return False
        self._paused_ticks += 1
        if self._paused_ticks > MAX_PAUSED:
            self._paused_at = None
        return self._paused_at is not None

    def rest(self, heard_position: int | None = None) -> Step[MarkT]:
        """20 ms on hold: nothing is taken, and what was being said goes on at its next sample."""
        return self._pause(None, heard_position, None)

    def reopen(self, open_ticket: Callable[[], Ticket]) -> None:
        """After a rest: what was being said needs a ticket of its own."""
        if self.speaking:
            self._queue[0].ticket = open_ticket()

    def _append(self, utterance: Utterance[MarkT], chunk: Chunk) -> None:
        utterance.chunks.append(chunk)
        utterance.pending += len(chunk.pcm)
        utterance.written += len(chunk.pcm) // 2
        self._pending += len(chunk.pcm)

    def _open(self) -> Utterance[MarkT]:
        if not self._queue or self._queue[-1].finished:
            raise ValueError("no utterance is open; call begin first")
        return self._queue[-1]

    def _ended_late(self) -> str | None:
        """The utterance whose last sample went out before it was known to be the last."""
        if not self._queue:
            return None
        utterance = self._queue[0]
        if utterance.ticket is None or utterance.pending or not utterance.finished:
            return None
        self._sent.extend((self._position, mark) for _, mark in utterance.marks)
        self._queue.popleft()
        return utterance.label

    def _current(self) -> Utterance[MarkT] | None:
        while self._queue:
            utterance = self._queue[0]
            if utterance.pending or not utterance.finished:
                return utterance
            self._sent.extend((self._position, mark) for _, mark in utterance.marks)
            self._queue.popleft()
        return None

    def _ready(self, utterance: Utterance[MarkT]) -> bool:
        return utterance.pending >= self._frame_bytes or (
            utterance.finished and utterance.pending > 0
        )

    def _pause(
        self,
        utterance: Utterance[MarkT] | None,
        heard_position: int | None,
        ended: str | None,
    ) -> Step[MarkT]:
        self._position += self._frame_samples
        underrun = utterance is not None and utterance.ticket is not None
        if utterance is not None and underrun:
            utterance.starved += 1
        return Step(Draft(), self._release(heard_position), ended=ended, underrun=underrun)

    def _draw(self, utterance: Utterance[MarkT]) -> tuple[Piece, ...]:
        first = utterance.chunks[0]
        need = self._frame_bytes
        pieces: list[Piece] = []
        while need and utterance.chunks:
            chunk = utterance.chunks[0]
            if chunk.licence is not first.licence:
                break  # a frame is under one licence or none
            start = utterance.offset
            stop = min(len(chunk.pcm), start + need)
            pieces.append(piece_of(chunk, start, stop))
            need -= stop - start
            utterance.offset = stop
            if stop == len(chunk.pcm):
                utterance.chunks.popleft()
                utterance.offset = 0
        got = self._frame_bytes - need
        utterance.pending -= got
        utterance.taken += got // 2
        self._pending -= got
        return tuple(pieces)

    def _release(self, heard_position: int | None) -> list[MarkT]:
        heard = self._position if heard_position is None else heard_position
        released: list[MarkT] = []
        while self._sent and self._sent[0][0] <= heard:
            released.append(self._sent.popleft()[1])
        return released
