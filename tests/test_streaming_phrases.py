"""Phrases: where they are cut, that nothing is lost, and that a slow stream still speaks."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipecat.frames.frames import (
    AggregatedTextFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)

from fakes.graphs import running
from ringtrue.streaming.llm.actions import CallActionFrame, Hangup
from ringtrue.streaming.phrases import PhraseChunker, PhrasePolicy, PhraseSplitter, spoken_text
from ringtrue.streaming.record import Stage


def split(text: str, token: str = r"\s*\S+") -> list[str]:
    """Feed ``text`` in tokens and flush."""
    splitter = PhraseSplitter()
    phrases = []
    for piece in re.findall(token, text, re.DOTALL):
        phrases += splitter.feed(piece)
    return phrases + splitter.flush()


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Yes.", ["Yes."]),
        ("Of course, I can do that.", ["Of course,", "I can do that."]),
        ("Well, hello.", ["Well, hello."]),
        (
            "Thank you for calling Acme, this is an automated assistant.",
            ["Thank you for calling Acme,", "this is an automated assistant."],
        ),
        ("It costs 3.50 dollars today.", ["It costs 3.50 dollars today."]),
        ("Dr. Smith is here. Mr. J. R. Jones too.", ["Dr. Smith is here.", "Mr. J. R. Jones too."]),
        ("Come at 3:30 p.m. Then wait.", ["Come at 3:30 p.m.", "Then wait."]),
        ("It is 3 p.m. now.", ["It is 3 p.m. now."]),
        ("See example.com/a.b or a.b@c.de now.", ["See example.com/a.b or a.b@c.de now."]),
        ("Fruit, e.g. apples, is good.", ["Fruit, e.g. apples,", "is good."]),
        ("1. Do this\n2. Do that", ["1. Do this", "2. Do that"]),
        ("Really?! Yes…", ["Really?!", "Yes…"]),
        ("你好，我是助手。今天天气很好！", ["你好，我是助手。", "今天天气很好！"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_boundaries(text: str, phrases: list[str]) -> None:
    assert split(text) == phrases


def test_first_phrase_is_short_and_later_ones_are_not() -> None:
    text = (
        "I would be happy to help you with that request right away because that is what "
        "I am here for and nothing else matters to me at all today"
    )
    first, *later = split(text)
    assert 4 <= len(first.split()) <= 6
    assert all(len(phrase.split()) <= 14 for phrase in later)
    assert all(len(phrase.split()) >= 5 for phrase in later[:-1])


def test_an_unpunctuated_phrase_does_not_end_with_an_article() -> None:
    first = split("I will now look for the invoice that you have sent to us")[0]
    assert first.split()[-1] not in ("the", "for", "a", "to")


ODD = ["Dr.", "3.5", "p.m.", "e.g.", "Hello,", "yes.", "**a**", "\n", " ", "1.", "？"]
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=0, max_size=12
) | st.sampled_from(ODD)
streams = st.lists(words, max_size=80)


@given(streams)
@settings(max_examples=300, deadline=None)
def test_no_character_is_lost_or_doubled(tokens: list[str]) -> None:
    splitter = PhraseSplitter()
    phrases = [phrase for token in tokens for phrase in splitter.feed(token)] + splitter.flush()
    assert "".join("".join(phrases).split()) == "".join("".join(tokens).split())
    assert all(phrase == phrase.strip() and phrase for phrase in phrases)
    assert splitter.pending == ""


@given(st.lists(words, max_size=40), st.data())
@settings(max_examples=200, deadline=None)
def test_releases_lose_nothing_either(tokens: list[str], data: st.DataObject) -> None:
    splitter = PhraseSplitter()
    phrases = []
    for token in tokens:
        phrases += splitter.feed(token)
        if data.draw(st.booleans()):
            phrases += splitter.release()
    phrases += splitter.flush()
    assert "".join("".join(phrases).split()) == "".join("".join(tokens).split())


@given(st.text(max_size=200), st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_the_size_of_tokens_does_not_matter_for_sentences(text: str, size: int) -> None:
    sentence = "Hello there. " + text + " And more. 3.5 is e.g. a number, "
    pieces = [sentence[i : i + size] for i in range(0, len(sentence), size)]
    splitter = PhraseSplitter()
    by_piece = [p for piece in pieces for p in splitter.feed(piece)] + splitter.flush()
    by_char = PhraseSplitter()
    one = [p for char in sentence for p in by_char.feed(char)] + by_char.flush()
    assert by_piece[0] == one[0] == "Hello there."
    assert "".join("".join(by_piece).split()) == "".join("".join(one).split())


def test_text_without_boundaries_is_bounded() -> None:
    splitter = PhraseSplitter(PhrasePolicy(max_chars=50))
    phrases = splitter.feed("x" * 1000)
    assert len(splitter.pending) <= 50
    assert max(map(len, phrases)) <= 50
    assert sum(map(len, phrases)) + len(splitter.pending) == 1000


def test_release_keeps_an_unfinished_word_and_a_title() -> None:
    splitter = PhraseSplitter()
    assert splitter.feed("I spoke to Dr. Wat") == []
    assert splitter.release() == ["I spoke to"]
    assert splitter.pending == "Dr. Wat"


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("**Bold** and *it* and __under__", "Bold and it and under"),
        ("## A heading", "A heading"),
        ("- a bullet", "a bullet"),
        ("> quoted", "quoted"),
        ("see [our site](https://x.y/z)", "see our site"),
        ("use `code` here", "use code here"),
        ("a snake_case name and 2*3", "a snake_case name and 2*3"),
        ("5 - 3 is 2", "5 - 3 is 2"),
    ],
)
def test_markdown_is_not_spoken(written: str, spoken: str) -> None:
    assert spoken_text(written) == spoken


@given(st.text(max_size=100))
@settings(max_examples=300, deadline=None)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert spoken_text(spoken_text(text)) == spoken_text(text)


def tokens_of(text: str) -> list[LLMTextFrame]:
    return [LLMTextFrame(token) for token in re.findall(r"\s*\S+", text)]


def said(frames: list[AggregatedTextFrame]) -> list[str]:
    return [frame.text for frame in frames]


@pytest.mark.virtual_time
async def test_chunker_keeps_order_around_the_text() -> None:
    stages: list[Stage] = []
    async with running(PhraseChunker(probe=stages.append)) as graph:
        await graph.push(
            LLMFullResponseStartFrame(),
            *tokens_of("**Sure.** I'll put you through"),
            LLMFullResponseEndFrame(),
            TTSSpeakFrame("One moment."),
            CallActionFrame(Hangup()),
        )
        await graph.until(lambda: graph.down(CallActionFrame))
        kinds: list[type[Frame]] = [type(f) for f in graph.exit.frames]
        assert kinds == [
            LLMFullResponseStartFrame,
            AggregatedTextFrame,
            AggregatedTextFrame,
            LLMFullResponseEndFrame,
            TTSSpeakFrame,
            CallActionFrame,
        ]
        assert said(graph.down(AggregatedTextFrame)) == ["Sure.", "I'll put you through"]
    assert stages == [Stage.FIRST_PHRASE, Stage.FIRST_PHRASE]


@pytest.mark.virtual_time
async def test_a_slow_stream_still_speaks() -> None:
    policy = PhrasePolicy(first_hold=0.4, hold=0.8)
    async with running(PhraseChunker(policy)) as graph:
        begun = asyncio.get_running_loop().time()
        await graph.push(LLMFullResponseStartFrame(), *tokens_of("I am looking it"))
        await graph.until(lambda: graph.down(AggregatedTextFrame))
        first = graph.down(AggregatedTextFrame)[0]
        assert first.text == "I am looking"
        assert graph.at(first) - begun == pytest.approx(0.4, abs=0.01)
        await graph.push(*tokens_of(" up for you"))
        await graph.until(lambda: len(graph.down(AggregatedTextFrame)) == 2)
        second = graph.down(AggregatedTextFrame)[1]
        assert second.text == "it up for"
        assert graph.at(second) - begun == pytest.approx(1.2, abs=0.02)
        await graph.push(LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        assert said(graph.down(AggregatedTextFrame))[-1] == "you"


@pytest.mark.virtual_time
async def test_interruption_forgets_what_was_waiting() -> None:
    async with running(PhraseChunker()) as graph:
        await graph.push(LLMFullResponseStartFrame(), *tokens_of("This was"))
        await asyncio.sleep(0.1)
        await graph.push(InterruptionFrame())
        await asyncio.sleep(2)
        assert graph.down(AggregatedTextFrame) == []
        await graph.push(
            LLMFullResponseStartFrame(), *tokens_of("Something new."), LLMFullResponseEndFrame()
        )
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        assert said(graph.down(AggregatedTextFrame)) == ["Something new."]


@pytest.mark.virtual_time
async def test_text_that_is_not_to_be_spoken_passes_untouched() -> None:
    silent = LLMTextFrame("not for the caller")
    silent.skip_tts = True
    async with running(PhraseChunker()) as graph:
        await graph.push(silent)
        await graph.until(lambda: graph.down(LLMTextFrame))
        assert graph.down(AggregatedTextFrame) == []
