"""Markup as a synthesizer gets it: nothing raises, nothing of a tag is spoken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.config.speech_markup import Break, SayAs
from ringtrue.streaming.ssml import MAX_DEPTH, Passage, Style, escaped, parse, plain_text


def spoken(markup: str) -> list[tuple[str, Style] | float]:
    """Words with their style, and seconds of the breaks."""
    found: list[tuple[str, Style] | float] = []
    for part in parse(markup).parts:
        if isinstance(part, Break):
            found.append(part.seconds)
            continue
        at = 0
        for word in part.text.split():
            at = part.text.index(word, at)
            found.append((word, part.style_at(at)))
            at += len(word)
    return found


@given(st.text())
def test_plain_text_is_unchanged(text: str) -> None:
    plain = text.replace("<", "").replace("&", "")
    assert plain_text(plain) == plain
    assert parse(plain).dropped == 0


@given(st.text())
def test_escaped_text_is_read_back(text: str) -> None:
    assert plain_text(escaped(text)) == text


TAGS = st.sampled_from(
    [
        "<break/>",
        '<break time="9s"/>',
        "</break>",
        '<prosody rate="slow">',
        '<prosody rate="200%" pitch="+9st" volume="x-loud">',
        '<prosody pitch="-9st" bogus="1">',
        "<prosody>",
        "</prosody>",
        "<emphasis>",
        "</emphasis>",
        '<say-as interpret-as="digits">',
        '<say-as interpret-as="?">',
        "</say-as>",
        "<speak>",
        "<b>",
        "<br/>",
    ]
)


@given(st.lists(TAGS | st.sampled_from(["12", " word ", ", ", "x", "\n"]), max_size=60))
def test_any_nesting_is_bounded_and_leaves_only_text(items: list[str]) -> None:
    script = parse("".join(items))
    said = "".join(script.text.split())
    assert said == "".join(item for item in items if "<" not in item).replace(" ", "").replace(
        "\n", ""
    )
    for one, other in zip(script.parts, script.parts[1:], strict=False):
        assert not (isinstance(one, Break) and isinstance(other, Break))
    for part in script.parts:
        if isinstance(part, Break):
            assert 0 <= part.seconds <= 3
            continue
        assert part.styles[0][0] == 0
        assert all(a[0] < b[0] for a, b in zip(part.styles, part.styles[1:], strict=False))
        for _, style in part.styles:
            assert 0.5 <= style.rate <= 2
            assert -12 <= style.pitch <= 12
            assert -12 <= style.volume <= 12
        for said_as in part.said:
            assert 0 <= said_as.start < said_as.end <= len(part.text)


@given(st.text("<>&/ab='\" ;!-#1", max_size=60) | st.text())
def test_nothing_raises(text: str) -> None:
    parse(text)


def test_nested_prosody_multiplies_and_adds() -> None:
    assert spoken(
        'a <prosody rate="80%" volume="+3dB">b <prosody rate="50%" pitch="+2st" volume="-1dB">c'
        "</prosody> d</prosody> e"
    ) == [
        ("a", Style()),
        ("b", Style(0.8, 0, 3)),
        ("c", Style(0.5, 2, 2)),
        ("d", Style(0.8, 0, 3)),
        ("e", Style()),
    ]


@pytest.mark.parametrize(
    ("markup", "plain", "dropped"),
    [
        ("Hello <b>big</b> world", "Hello big world", 2),
        ("<speak>Hello</speak>", "Hello", 2),
        ("one<br>two", "one two", 1),
        ("one<break/>two", "one two", 0),
        ("one <break/> two", "one two", 0),
        ("Hello <!-- no --> you", "Hello you", 1),
        ('<prosody rate="warp">fast</prosody>', "fast", 1),
        ('<prosody rate="warp" pitch="high">fast</prosody>', "fast", 1),
        ("<emphasis>one</prosody>", "one", 1),
        ("<emphasis><prosody rate='slow'>one</emphasis> two</prosody>", "one two", 2),
        ("an unfinished <prosody rate=", "an unfinished ", 1),
        ("an unfinished </pro", "an unfinished ", 1),
        ("3 < 5, AT&amp;T", "3 < 5, AT&T", 0),
        ("", "", 0),
        ("<break/>", "", 0),
    ],
)
def test_what_is_left_is_plain_and_what_is_not_is_counted(
    markup: str, plain: str, dropped: int
) -> None:
    script = parse(markup)
    assert (script.text, script.dropped) == (plain, dropped)


def test_breaks_stand_between_passages_and_add_up_to_three_seconds() -> None:
    assert spoken('a<break time="1s"/>b <break time="2s"/> <break time="2s"/> c') == [
        ("a", Style()),
        1.0,
        ("b", Style()),
        3.0,
        ("c", Style()),
    ]


def test_readings_are_ranges_of_the_text() -> None:
    (part,) = parse('PIN <say-as interpret-as="digits">48<b>2</b>1</say-as>, please').parts
    assert isinstance(part, Passage)
    (said,) = part.said
    assert part.text[said.start : said.end] == "4821"
    assert said.how == SayAs("digits")


def test_too_deep_nesting_has_no_effect_and_closes_again() -> None:
    depth = MAX_DEPTH + 5
    markup = '<prosody pitch="+1st">' * depth + "in " + "</prosody>" * depth + "out"
    assert spoken(markup) == [("in", Style(pitch=12.0)), ("out", Style())]
    assert parse(markup).dropped == 5
