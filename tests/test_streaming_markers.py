"""Markup in a token stream: never cut, whole in every phrase, never in a frame's text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipecat.frames.frames import (
    AggregatedTextFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)

from fakes.graphs import running
from ringtrue.config.speech_markup import Break, markup_problems
from ringtrue.streaming.markers import Markers, unmarked
from ringtrue.streaming.phrases import PhraseChunker, PhraseSplitter
from ringtrue.streaming.ssml import Style, markup_of, parse, plain_text

TEXT = (
    'Hello, <prosody rate="slow">I will say this slowly. It goes on for <emphasis>quite</emphasis> '
    'a while, and <break time="300ms"/> then</prosody> it stops.<break time="1s"/>'
    " Dr. <b>Smith</b> said &lt;3 &amp; 5 < 6. Your code is "
    '<say-as interpret-as="digits">48 21</say-as>.'
)


def phrases(*tokens: str) -> list[str]:
    """Markup of the phrases of a response that comes in ``tokens``."""
    splitter, markers = PhraseSplitter(), Markers()
    cut = [phrase for token in tokens for phrase in splitter.feed(markers.encode(token))]
    cut += splitter.feed(markers.finish()) + splitter.flush()
    decoded = [
        markers.decode(phrase, speakable=any(map(str.isalnum, unmarked(phrase)))) for phrase in cut
    ]
    return [markup for markup in decoded if markup]


def spoken(markups: list[str]) -> list[tuple[str, Style, str] | float]:
    """Words with their style and reading, and breaks, of phrases one after the other."""
    found: list[tuple[str, Style, str] | float] = []
    for part in (part for markup in markups for part in parse(markup).parts):
        if isinstance(part, Break):
            found.append(part.seconds)
            continue
        at = 0
        for word in part.text.split():
            at = part.text.index(word, at)
            said = [said.how.kind for said in part.said if said.start <= at < said.end]
            found.append((word, part.style_at(at), "".join(said)))
            at += len(word)
    return found


def test_each_phrase_is_whole_by_itself() -> None:
    markups = phrases(TEXT)
    assert len(markups) > 4
    assert [problem for markup in markups for problem in markup_problems(markup)] == []
    assert spoken(markups) == spoken([TEXT])


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(TEXT)), max_size=8).map(sorted))
def test_cut_at_any_character_gives_the_same_phrases(cuts: list[int]) -> None:
    tokens = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
    assert phrases(*tokens) == phrases(TEXT)
    assert phrases(*TEXT) == phrases(TEXT)


ITEMS = st.sampled_from(
    [
        "word ",
        "Stop. ",
        "and, ",
        "No. 5 ",
        "\n",
        "<break/>",
        "<b>",
        "<prosody rate='slow'>",
        "</prosody>",
        "<emphasis>",
        "</emphasis>",
        "</b>",
        "&amp; ",
        "< ",
        "\ue000",
        "very",
        "one two three four five six seven eight nine ten ",
    ]
)


@settings(max_examples=60)
@given(st.lists(ITEMS, max_size=40))
def test_words_and_styles_survive_any_markup(items: list[str]) -> None:
    text = "".join(items)
    said = [item for item in spoken(phrases(text)) if not isinstance(item, float)]
    meant = [item for item in spoken([unmarked(text)]) if not isinstance(item, float)]
    while meant and not any(map(str.isalnum, meant[-1][0])):
        meant.pop()
    while said and not any(map(str.isalnum, said[-1][0])):
        said.pop()
    assert [word for word, _, _ in said] == [word for word, _, _ in meant]
    assert said == meant


def test_private_use_characters_of_the_text_are_dropped() -> None:
    assert phrases("one \ue000\uf8fftwo.") == ["one two."]


def test_a_break_waits_for_words_and_is_bounded() -> None:
    markers = Markers()
    for _ in range(5):
        assert markers.decode(markers.encode('<break time="1s"/>'), speakable=False) == ""
    assert markers.decode("So,") == '<break time="3000ms"/>So,'
    assert markers.decode("well") == "well"


def test_nothing_stays_open_after_the_response() -> None:
    markers = Markers()
    assert markers.decode(markers.encode("<emphasis>one")) == "<emphasis>one</emphasis>"
    assert markers.decode("two") == "<emphasis>two</emphasis>"
    markers.reset()
    assert markers.decode("three") == "three"


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("<b>x</b>", 2),
        ('<prosody rate="warp">x</prosody>', 1),
        ("x</emphasis>", 1),
        ("x <prosody rat", 1),
        ("a < b", 0),
        ("<emphasis/>", 0),
    ],
)
def test_what_has_no_effect_is_counted(text: str, dropped: int) -> None:
    markers = Markers()
    markers.decode(markers.encode(text) + markers.finish())
    assert markers.dropped == dropped


async def test_frames_are_plain_and_carry_their_markup() -> None:
    chunker = PhraseChunker()
    async with running(chunker) as graph:
        await graph.push(LLMFullResponseStartFrame())
        await graph.push(*(LLMTextFrame(char) for char in TEXT))
        await graph.push(LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        frames = graph.down(AggregatedTextFrame)
        markups = [markup_of(frame) or "" for frame in frames]
        assert " ".join(frame.text for frame in frames) == plain_text(TEXT)
        assert [plain_text(markup) for markup in markups] == [frame.text for frame in frames]
        assert spoken(markups) == spoken([TEXT])
        assert chunker.markup_dropped == 2


async def test_an_interruption_closes_what_was_open() -> None:
    async with running(PhraseChunker()) as graph:
        await graph.push(LLMFullResponseStartFrame())
        await graph.push(LLMTextFrame("<emphasis>This is how it begins. And <prosody rate="))
        await graph.until(lambda: graph.down(AggregatedTextFrame))
        await graph.push(InterruptionFrame())
        await graph.until(lambda: graph.down(InterruptionFrame))
        await graph.push(LLMFullResponseStartFrame(), LLMTextFrame("'slow'>New words.\n"))
        await graph.push(LLMFullResponseEndFrame())
        await graph.until(lambda: graph.down(LLMFullResponseEndFrame))
        last = graph.down(AggregatedTextFrame)[-1]
        assert markup_of(last) == "'slow'&gt;New words."
        assert last.text == "'slow'>New words."


async def test_what_is_to_be_spoken_as_it_is_goes_down_plain_too() -> None:
    async with running(PhraseChunker()) as graph:
        text = '<prosody rate="fast">One</prosody> <x>moment</x> &amp; more.'
        await graph.push(TTSSpeakFrame(text))
        await graph.until(lambda: graph.down(TTSSpeakFrame))
        (frame,) = graph.down(TTSSpeakFrame)
        assert frame.text == "One moment & more."
        assert markup_of(frame) == text
