"""Cuts a stream of LLM tokens into phrases a synthesizer can start on.

The first phrase of a response is short, because nothing is heard before it is synthesized;
later ones are clauses and sentences. A boundary is taken only where the text after it can no
longer change it: ``3.`` may become ``3.5``, ``Dr.`` is not the end of a sentence, and a token may
end in the middle of a word.

:class:`PhraseSplitter` is pure; :class:`PhraseChunker` is the Pipecat processor around it.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from ringtrue.streaming.llm.actions import CallActionFrame
from ringtrue.streaming.markers import Markers, unmarked
from ringtrue.streaming.record import Stage
from ringtrue.streaming.ssml import parse, set_markup

log = structlog.get_logger(__name__)

_WIDE_STOPS: Final = "。！？；、，"
"""CJK marks: no space follows them, so they end a token by themselves."""

_TOKEN: Final = re.compile(rf"[^\s{_WIDE_STOPS}]*[{_WIDE_STOPS}]+|[^\s{_WIDE_STOPS}]+")
_CLOSERS: Final = "\"'”’»)]}*_`"
_SENTENCE: Final = ".!?…。！？"
_CLAUSE: Final = ",;:；、，—–"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_TITLES: Final = _set(
    "mr mrs ms dr prof sr jr st mt gen col sgt capt lt rev hon no nos vol fig eq sec ch pp e.g "
    "i.e cf vs approx dept est ext tel ave blvd rd apt"
)
"""Abbreviations that something follows."""

_OPEN_ENDED: Final = _set(
    "a.m p.m etc inc ltd co corp u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec "
    "mon tue tues wed thu thur thurs fri sat sun min hr hrs"
)
"""Abbreviations that may also end a sentence: the next word's capital decides."""

_LEADS: Final = _set(
    "and but or so because if when while which who that then to for with from in on at by of "
    "after before until unless since though although where as"
)
"""Words a phrase may begin with: the place to cut where there is no punctuation."""

_DANGLING: Final = _LEADS | _set(
    "a an the my your our their his her its this these those is are was were be been not no "
    "i you we they he she it can could will would shall should may might must do does did have "
    "has had very i'm i'll you're we're we'll it's mr mrs ms dr"
)
"""Words a phrase should not end with."""

_LIST_MARK: Final = re.compile(r"\(?(?:\d{1,3}|[A-Za-z])[.)]$")
_INITIAL: Final = re.compile(r"(?:[A-Z]\.)+$")


@dataclass(frozen=True, slots=True)
class PhrasePolicy:
    """How long phrases are, in words unless said otherwise."""

    first_min: int = 4
    """Fewest words of a response's first phrase, unless punctuation ends it."""

    hurried_min: int = 3
    """The same where time runs out."""

    first_max: int = 6
    first_clause_min: int = 2
    """Fewest words of a first phrase that a comma ends."""

    clause_min: int = 5
    """The same for later phrases."""

    lead_min: int = 8
    """Fewest words of a later phrase that is cut where there is no punctuation."""

    max_words: int = 14
    max_chars: int = 240
    """Text without a boundary is cut here wherever it is."""

    first_hold: float = 0.4
    """Seconds text may wait for the boundary of a first phrase."""

    hold: float = 0.8
    """The same for later phrases."""


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    """Without markers of speech markup."""

    end: int
    newline: bool
    """A line ends after it."""

    speakable: bool

    @property
    def bare(self) -> str:
        return self.text.rstrip(_CLOSERS)

    @property
    def plain(self) -> str:
        return self.text.strip(_CLOSERS + _SENTENCE + _CLAUSE + "([{").lower()


class PhraseSplitter:
    """Text in, phrases out; what goes in comes out once and in order, but for white space."""

    def __init__(self, policy: PhrasePolicy | None = None) -> None:
        """Start at the beginning of a response."""
        self.policy = policy or PhrasePolicy()
        self._buffer = ""
        self._first = True
        self._hurried = False

    @property
    def pending(self) -> str:
        """Text taken in and not yet given out."""
        return self._buffer

    @property
    def first(self) -> bool:
        """Whether the next phrase is the response's first."""
        return self._first

    def feed(self, text: str) -> list[str]:
        """Take the next token, of any length; return the phrases it completes."""
        phrases: list[str] = []
        for start in range(0, len(text), self.policy.max_chars):
            self._buffer += text[start : start + self.policy.max_chars]
            while (cut := self._cut()) is not None:
                phrases += self._take(cut)
        return phrases

    def flush(self) -> list[str]:
        """The response is over: return what is left, and start anew."""
        phrases = []
        # With the end known, every word is complete.
        self._buffer += "\n" if self._buffer else ""
        while (cut := self._cut()) is not None:
            phrases += self._take(cut)
        phrases += self._take(len(self._buffer))
        self._first, self._hurried = True, False
        return phrases

    def hurry(self) -> list[str]:
        """The first phrase is late: cut it as soon as it can be spoken; return it if that is now.

        It is still no shorter than :attr:`PhrasePolicy.hurried_min`, and doesn't end in the air.
        """
        self._hurried = self._first
        cut = self._cut()
        return [] if cut is None else self._take(cut)

    def release(self) -> list[str]:
        """The text has waited long enough: return its complete words, if that leaves sense."""
        words = self._words()
        while words and not words[-1].speakable:
            words.pop()
        if words and _ends_open(words[-1]):
            words.pop()
        return self._take(words[-1].end) if words else []

    def reset(self) -> None:
        """Forget everything: the response was interrupted."""
        self._buffer = ""
        self._first, self._hurried = True, False

    def _take(self, cut: int) -> list[str]:
        phrase, self._buffer = self._buffer[:cut].strip(), self._buffer[cut:].lstrip()
        if not phrase:
            return []
        if speakable_text(phrase):
            self._first = self._hurried = False
        return [phrase]

    def _words(self) -> list[_Word]:
        """The complete words of the buffer: those followed by white space or a wide stop."""
        words = []
        for match in _TOKEN.finditer(self._buffer):
            end = match.end()
            if end == len(self._buffer) and match.group()[-1] not in _WIDE_STOPS:
                break
            gap = re.match(r"\s*", self._buffer[end:])
            newline = gap is not None and "\n" in gap.group()
            text = unmarked(match.group())
            words.append(_Word(text, end, newline, speakable_text(text)))
        return words

    def _cut(self) -> int | None:
        """Where the next phrase ends, or None if that can't be said yet."""
        words = self._words()
        count = 0
        hurried: int | None = None
        for index, word in enumerate(words):
            count += word.speakable
            following = words[index + 1] if index + 1 < len(words) else None
            verdict = self._verdict(word, count, following)
            if verdict is None:
                return hurried
            if verdict:
                return word.end
            if count >= (self.policy.first_max if self._first else self.policy.max_words):
                return self._without_punctuation(words[: index + 1])
            if self._first and self._opens_new_part(words, index, count):
                return word.end
            named = index > 0 and word.text[:1].isupper()
            if self._hurried and count >= self.policy.hurried_min:
                hurried = hurried if named or word.plain in _DANGLING else word.end
        if len(self._buffer) >= self.policy.max_chars:
            return self._forced(words)
        return hurried

    def _verdict(self, word: _Word, count: int, following: _Word | None) -> bool | None:
        """Whether punctuation ends the phrase after ``word``; None where more must be seen."""
        if not count:
            return False
        if word.newline:
            return True
        bare = word.bare
        if not bare:
            return False
        if bare[-1] in _SENTENCE:
            if bare[-1] != ".":
                return True
            if count == 1 and _LIST_MARK.match(bare):
                return False
            if _ends_title(word):
                return False
            if word.plain in _OPEN_ENDED or _INITIAL.match(bare):
                rest = unmarked(self._buffer[word.end :]).lstrip()
                if not rest:
                    return None
                return rest[0].isupper() and not _INITIAL.match(bare)
            return True
        if bare[-1] in _CLAUSE or word.text in ("-", "--"):
            least = self.policy.first_clause_min if self._first else self.policy.clause_min
            return count >= least
        return False

    def _opens_new_part(self, words: list[_Word], index: int, count: int) -> bool:
        """Whether a first phrase of enough words can end before the next one."""
        if count < self.policy.first_min or index + 1 >= len(words):
            return False
        following = words[index + 1].plain
        return following in _LEADS and words[index].plain not in _DANGLING

    def _without_punctuation(self, words: list[_Word]) -> int:
        """The best cut where a phrase has grown to its limit."""
        least = self.policy.first_min if self._first else self.policy.lead_min
        counts = []
        count = 0
        for word in words:
            count += word.speakable
            counts.append(count)
        for need_lead in (True, False):
            for index in range(len(words) - 1, -1, -1):
                if counts[index] < least:
                    break
                leads = index + 1 < len(words) and words[index + 1].plain in _LEADS
                # A capital inside a sentence may begin a name that goes on.
                named = index > 0 and words[index].text[:1].isupper() and not leads
                if words[index].plain in _DANGLING or named:
                    continue
                if leads or not need_lead:
                    return words[index].end
        return words[-1].end

    def _forced(self, words: list[_Word]) -> int:
        if words:
            return words[-1].end
        cut = self.policy.max_chars
        while cut < len(self._buffer) and unicodedata.combining(self._buffer[cut]):
            cut += 1
        return cut


def speakable_text(text: str) -> bool:
    """Whether there is anything in ``text`` to be said."""
    return any(char.isalnum() for char in text)


def _ends_title(word: _Word) -> bool:
    return word.bare.endswith(".") and word.bare.strip("([{\"'“‘.").lower() in _TITLES


def _ends_open(word: _Word) -> bool:
    """Whether a phrase ending with ``word`` would sound cut off."""
    return _ends_title(word) or (_LIST_MARK.match(word.bare) is not None and word.bare[-1] == ".")


_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_LINE_MARK: Final = re.compile(r"^\s*(?:#{1,6}\s+|>\s+|[-*•]\s+)")
_EMPHASIS: Final = re.compile(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)")
_FENCE: Final = re.compile(r"`+|~~+")


def spoken_text(phrase: str) -> str:
    """``phrase`` without markdown's marks: emphasis, headings, bullets, code ticks, link targets.

    Letters and digits stay, but for a link's target. Applied twice it changes nothing more.
    """
    text = phrase
    for _ in range(8):
        before = text
        text = _LINK.sub(r"\1", text)
        text = _LINE_MARK.sub("", text)
        text = _FENCE.sub("", text)
        text = _EMPHASIS.sub("", text).strip()
        if text == before:
            break
    return text


class PhraseChunker(FrameProcessor):
    """Turns :class:`LLMTextFrame` tokens into phrases for the synthesizer.

    Each phrase goes down as an ``AggregatedTextFrame`` between the response's start and end
    frames, so that Pipecat's synthesizers speak it as it is. A timer speaks what a slow stream
    has delivered so far. What must come after the text (the response's end, a
    ``TTSSpeakFrame``, a :class:`CallActionFrame`) flushes it first.

    Speech markup (:mod:`ringtrue.config.speech_markup`) is never cut in the middle and never in a
    frame's text: phrases and ``TTSSpeakFrame`` go down plain, and carry the same with its markup
    for synthesizers that ask :func:`~ringtrue.streaming.ssml.markup_of`.
    """

    def __init__(
        self,
        policy: PhrasePolicy | None = None,
        *,
        probe: Callable[[Stage], None] | None = None,
    ) -> None:
        """``probe`` is told ``FIRST_PHRASE`` when a response's first phrase is handed on."""
        super().__init__(name="phrases")
        self._splitter = PhraseSplitter(policy)
        self._markers = Markers()
        self._reported = 0
        self._probe = probe
        self._order = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._release_task: asyncio.Task[None] | None = None
        self._announced = False

    @property
    def policy(self) -> PhrasePolicy:
        """How the next response is cut."""
        return self._splitter.policy

    @property
    def markup_dropped(self) -> int:
        """Tags and attributes that had no effect: unknown, wrong, misplaced or incomplete."""
        return self._markers.dropped

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Cut text, pass everything else in its place."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, LLMTextFrame) and not frame.skip_tts:
            async with self._order:
                await self._say(self._splitter.feed(self._markers.encode(frame.text)))
            self._arm()
        elif isinstance(frame, InterruptionFrame | CancelFrame):
            await self._drop()
            await self.push_frame(frame, direction)
        elif isinstance(frame, LLMFullResponseStartFrame):
            await self._flush()
            self._announced = False
            await self.push_frame(frame, direction)
        elif isinstance(
            frame, LLMFullResponseEndFrame | TTSSpeakFrame | CallActionFrame | EndFrame
        ):
            await self._flush()
            if isinstance(frame, TTSSpeakFrame):
                self._strip(frame)
                if self._probe is not None:
                    self._probe(Stage.FIRST_PHRASE)
            await self.push_frame(frame, direction)
        else:
            await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Stop the timer."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._drop()

    async def hurry(self) -> None:
        """The first phrase is late: hand it over as soon as it can be spoken."""
        async with self._order:
            await self._say(self._splitter.hurry())
        self._arm()

    async def _flush(self) -> None:
        self._disarm()
        async with self._order:
            splitter, rest = self._splitter, self._markers.finish()
            await self._say([*splitter.feed(rest), *splitter.flush()])
        self._markers.reset()
        if self.markup_dropped > self._reported:
            log.warning("phrases.markup_dropped", count=self.markup_dropped - self._reported)
            self._reported = self.markup_dropped

    async def _drop(self) -> None:
        self._disarm()
        if self._release_task is not None:
            task, self._release_task = self._release_task, None
            await self.cancel_task(task)
        self._splitter.reset()
        self._markers.reset()
        self._announced = False

    async def _say(self, phrases: list[str]) -> None:
        for phrase in phrases:
            text = spoken_text(phrase)
            speakable = speakable_text(unmarked(text))
            markup = self._markers.decode(text, speakable=speakable)
            if not speakable:
                continue
            if not self._announced:
                self._announced = True
                if self._probe is not None:
                    self._probe(Stage.FIRST_PHRASE)
            frame = AggregatedTextFrame(parse(markup).text, TextType.SENTENCE)
            set_markup(frame, markup)
            await self.push_frame(frame)

    def _strip(self, frame: TTSSpeakFrame) -> None:
        script = parse(frame.text)
        self._markers.dropped += script.dropped
        set_markup(frame, frame.text)
        frame.text = script.text

    def _arm(self) -> None:
        """Start the timer at the oldest waiting text; what arrives meanwhile doesn't delay it."""
        if not unmarked(self._splitter.pending).strip():
            self._disarm()
        elif self._timer is None:
            policy = self._splitter.policy
            hold = policy.first_hold if self._splitter.first else policy.hold
            self._timer = self.get_event_loop().call_later(hold, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        self._release_task = self.create_task(self._release(), "phrases::release")

    async def _release(self) -> None:
        async with self._order:
            await self._say(self._splitter.release())
        self._release_task = None
        self._arm()
