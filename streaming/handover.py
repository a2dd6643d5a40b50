"""What is still to be said when a voice may not go on: from the first word that nobody heard.

Everything a synthesizer pushed keeps its place in playout until it is heard, so what comes back
from there (:class:`~ringtrue.streaming.voice_frames.TakeBackFrame`) together with what was not
pushed yet is the whole rest of the conversation, in order.
"""

from __future__ import annotations

import html
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipecat.frames.frames import AggregatedTextFrame, Frame, TTSStartedFrame, TTSStoppedFrame
from pipecat.utils.text.base_text_aggregator import TextType

from ringtrue.streaming.ports import SpeechChunk, SynthesisStream
from ringtrue.streaming.ssml import markup_of, set_markup
from ringtrue.streaming.voice_frames import SpokenWordFrame


@dataclass(slots=True, eq=False)
class Utterance:
    """One LLM response, or one text by itself, being spoken."""

    append_to_context: bool
    commit: bool
    """Push the aggregation when it ends: it isn't part of an LLM response that will."""

    stream: SynthesisStream | None = None
    """None only until it is begun anew in another voice."""

    speaks_markup: bool = False
    licensed: bool = False
    """Whether it is in a cloned voice."""

    context_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    phrases: deque[AggregatedTextFrame] = field(default_factory=deque)
    """Fed and not yet spoken to the end; the first is being spoken."""

    offset: int = 0
    """Where in the first phrase's text the words that were pushed end."""

    def begin(self, stream: SynthesisStream, *, speaks_markup: bool, licensed: bool) -> None:
        """Speak on ``stream``, and feed it what there is already."""
        if self.stream is not None:
            self.stream.cut()
        self.stream, self.speaks_markup, self.licensed = stream, speaks_markup, licensed
        self.offset = 0
        for phrase in self.phrases:
            stream.feed(self._written(phrase))

    def feed(self, phrase: AggregatedTextFrame) -> None:
        """Say ``phrase`` too."""
        self.phrases.append(phrase)
        if self.stream is not None:
            self.stream.feed(self._written(phrase))

    def place(self, word: str) -> int:
        """Where ``word``, the next one spoken, begins in the first phrase's text."""
        if not self.phrases:
            return 0
        at = self.phrases[0].text.find(word, self.offset)
        if at < 0:
            return self.offset
        return at

    def pieces(self, chunk: SpeechChunk, position: int) -> Iterator[bytes | SpokenWordFrame]:
        """Audio and words of ``chunk`` in order, cut where a word ends.

        ``position`` is where it begins, in samples since the utterance did. :attr:`offset` is to
        be moved behind each word before the next is asked for.
        """
        end = position + len(chunk.pcm) // 2
        at = position
        for word in chunk.words:
            stop = min(max(word.end, at), end)
            if stop > at:
                yield chunk.pcm[2 * (at - position) : 2 * (stop - position)]
            at = stop
            phrase = self.phrases[0] if self.phrases else None
            text = SpokenWordFrame(
                word.text,
                text_type=TextType.WORD,
                segment_id=phrase.id if phrase is not None else None,
                phrase=phrase,
                start=self.place(word.text),
            )
            text.context_id = self.context_id
            text.append_to_context = self.append_to_context
            text.will_be_spoken = True
            yield text
        if end > at:
            yield chunk.pcm[2 * (at - position) :]

    def _written(self, phrase: AggregatedTextFrame) -> str:
        return (markup_of(phrase) or phrase.text) if self.speaks_markup else phrase.text


def carry_on(
    unheard: Sequence[Frame],
    interrupted: Utterance | None,
    rest: Iterable[Utterance | Frame],
) -> deque[Utterance | Frame]:
    """What is to be said and passed on now, in order; its licensed utterances are to begin anew.

    ``unheard`` are the frames taken back from playout, ``interrupted`` the utterance that was
    being spoken, ``rest`` what was queued behind it.
    """
    words = [frame for frame in unheard if isinstance(frame, SpokenWordFrame)]
    again = {word.phrase.id for word in words if word.phrase is not None}
    spoken = {word.context_id for word in words if word.phrase is not None}
    remaining: deque[AggregatedTextFrame] = deque()
    by_context: dict[str | None, Utterance] = {}
    if interrupted is not None:
        remaining, interrupted.phrases = interrupted.phrases, deque()
        again |= {phrase.id for phrase in remaining}
        spoken.add(interrupted.context_id)
        by_context[interrupted.context_id] = interrupted
    queue: deque[Utterance | Frame] = deque()
    placed: set[str | None] = set()
    done: set[int] = set()
    for frame in unheard:
        if isinstance(frame, SpokenWordFrame) and frame.phrase is not None:
            utterance = by_context.get(frame.context_id)
            if utterance is None:
                utterance = Utterance(frame.append_to_context, False, licensed=True)
                utterance.context_id = frame.context_id or utterance.context_id
                by_context[frame.context_id] = utterance
            if frame.context_id not in placed:
                placed.add(frame.context_id)
                queue.append(utterance)
            if frame.phrase.id not in done:
                done.add(frame.phrase.id)
                utterance.phrases.append(_from(frame.phrase, frame.start))
        elif type(frame) is AggregatedTextFrame and frame.id in again:
            frame.will_be_spoken = False  # nobody saw it announced
        elif (
            not isinstance(frame, TTSStartedFrame | TTSStoppedFrame)
            or frame.context_id not in spoken
        ):
            queue.append(frame)
    if interrupted is not None:
        if interrupted.context_id not in placed:
            queue.append(interrupted)
        if remaining and remaining[0].id in done:
            remaining.popleft()
        elif remaining:
            first = _from(remaining.popleft(), interrupted.offset)
            if first.text.strip():
                interrupted.phrases.append(first)
        interrupted.phrases.extend(remaining)
    queue.extend(rest)
    return queue


def _from(phrase: AggregatedTextFrame, start: int) -> AggregatedTextFrame:
    """``phrase`` from ``start`` on; what is not whole has lost its markup and is announced."""
    if not phrase.text[:start].strip():
        return phrase
    text = phrase.text[start:].strip()
    left = AggregatedTextFrame(text, phrase.text_type, context_id=phrase.context_id)
    set_markup(left, html.escape(text, quote=False))
    left.append_to_context = False
    left.will_be_spoken = True
    return left
