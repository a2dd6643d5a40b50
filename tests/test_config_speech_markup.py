"""The markup's grammar: what is a tag, what it means, and what is said of a wrong one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.config.speech_markup import (
    ELEMENTS,
    EMPHASIS,
    MAX_TAG,
    Break,
    Element,
    Prosody,
    SayAs,
    Scanner,
    Tag,
    interpret,
    markup_problems,
)

SOUP = st.lists(
    st.sampled_from(
        [
            *"<>&;/=\"'`! -?a1.",
            "<break",
            "<prosody ",
            "</prosody>",
            'rate="slow"',
            "time=1s/",
            "/>",
            "word ",
            "&amp;",
            "<b>",
            "<!-- x -->",
        ]
    ),
    max_size=40,
).map("".join)


def scan(*chunks: str) -> list[str | Tag]:
    """Items of a text that comes in chunks; text that was split is joined again."""
    scanner = Scanner()
    items: list[str | Tag] = []
    for item in [i for chunk in chunks for i in scanner.feed(chunk)] + scanner.flush():
        if isinstance(item, str) and items and isinstance(items[-1], str):
            items[-1] += item
        else:
            items.append(item)
    return items


def meaning(source: str) -> Element | None:
    (tag,) = scan(source)
    assert isinstance(tag, Tag)
    return interpret(tag)[0]


@pytest.mark.parametrize(
    "text",
    [
        "if x < 5 and y > 3",
        "a<b, then",
        "<3 you",
        "mail <bob@example.com>",
        "see <https://example.com/a?b=c>",
        "AT&T & R&D; Tom &unknown; Jerry",
        "<",
        "<<>>",
        "< break/>",
        "a <b",
    ],
)
def test_what_is_no_tag_is_text(text: str) -> None:
    assert scan(text) == [text]
    assert markup_problems(text) == []


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("&lt;break/&gt;", "<break/>"),
        ("R&amp;D &#65;&#x42; &eacute;", "R&D AB é"),
        ("&amp;amp;", "&amp;"),
    ],
)
def test_entities_are_text_and_never_tags(text: str, plain: str) -> None:
    assert scan(text) == [plain]


@pytest.mark.parametrize(
    "source",
    [
        "<b>",
        "</b>",
        "<br/>",
        "<think>",
        '<x:y a="1 > 0" b>',
        "<!-- a -->",
        "<?xml 1?>",
        "<a href=/x>",
    ],
)
def test_unknown_tags_are_tags(source: str) -> None:
    before, tag, after = scan(f"a {source} b")
    assert (before, after) == ("a ", " b")
    assert isinstance(tag, Tag)
    assert tag.source == source
    assert tag.name not in ELEMENTS


def test_a_tag_too_long_is_text() -> None:
    fits = "<a" + " " * (MAX_TAG - 3) + ">"
    assert [type(item) for item in scan(fits)] == [Tag]
    assert scan(fits.replace(" ", "  ", 1)) == [fits.replace(" ", "  ", 1)]


@given(SOUP, st.data())
def test_any_chunking_gives_the_same(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert scan(*chunks) == scan(text)
    assert scan(*text) == scan(text)


def test_an_unquoted_value_may_begin_with_a_slash() -> None:
    assert scan(*"<a x=/y>") == scan("<a x=/y>")


@given(st.text())
def test_text_without_special_characters_is_itself(text: str) -> None:
    plain = text.replace("<", "").replace("&", "")
    assert scan(plain) == ([plain] if plain else [])


@given(SOUP | st.text())
def test_checking_never_raises(text: str) -> None:
    markup_problems(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<break/>", Break(0.4)),
        ('<break time="300ms"/>', Break(0.3)),
        ("<break time=1.5s/>", Break(1.5)),
        ("<BREAK STRENGTH='x-strong' />", Break(1.0)),
        ('<break strength="none"/>', Break(0.0)),
        ('<prosody rate="80%">', Prosody(rate=0.8)),
        ('<prosody rate="+25%">', Prosody(rate=1.25)),
        ('<prosody rate="fast" pitch="-2st" volume="+3dB">', Prosody(1.25, -2.0, 3.0)),
        ('<prosody pitch="+100%">', Prosody(pitch=12.0)),
        ('<prosody pitch="-50%" volume="soft">', Prosody(pitch=-12.0, volume=-5.0)),
        ("<emphasis>", EMPHASIS["moderate"]),
        ('<emphasis level="strong">', EMPHASIS["strong"]),
        ('<say-as interpret-as="digits">', SayAs("digits")),
        ('<say-as interpret-as="date" format="dmy">', SayAs("date", "dmy")),
    ],
)
def test_meaning(source: str, expected: Element) -> None:
    assert meaning(source) == expected


def test_emphasis_goes_the_way_its_name_says() -> None:
    strong, moderate, reduced = (EMPHASIS[name] for name in ("strong", "moderate", "reduced"))
    assert strong.rate < moderate.rate < 1 < reduced.rate
    assert strong.pitch > moderate.pitch > 0 > reduced.pitch
    assert strong.volume > moderate.volume > 0 > reduced.volume


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<brake/>", r"<brake/> is unknown; tags here: break, emphasis, prosody, say-as"),
        ('<break time="5s"/>', r"has time '5s'; allowed: 0ms to 3000ms or 0s to 3s"),
        ('<break strength="huge"/>', r"'huge'; allowed: none, x-weak, .*x-strong"),
        ('<prosody speed="1">x</prosody>', r"the attribute 'speed'; allowed: pitch, rate, volume"),
        ('<prosody rate="201%">x</prosody>', r"rate '201%'; allowed: x-slow, .*50% to 200%"),
        ('<prosody rate="49%">x</prosody>', r"rate '49%'"),
        ('<prosody pitch="120Hz">x</prosody>', r"pitch '120Hz'; allowed: .*-12st to \+12st"),
        ('<prosody pitch="+13st">x</prosody>', r"pitch '\+13st'"),
        ('<prosody volume="silent">x</prosody>', r"volume 'silent'; allowed: .*-12dB to \+12dB"),
        ("<prosody>x</prosody>", r"needs one of pitch, rate, volume"),
        ('<prosody rate="slow" rate="fast">x</prosody>', r"gives rate twice"),
        ('<emphasis level="loud">x</emphasis>', r"level 'loud'; allowed: none, reduced, moder"),
        ("<say-as>1</say-as>", r"<say-as> needs interpret-as"),
        ('<say-as interpret-as="money">1</say-as>', r"'money'; allowed: cardinal, characters, da"),
        ('<say-as interpret-as="date" format="x">1</say-as>', r"for a date: dm, dmy, md"),
        ("<emphasis>x", r"<emphasis> is never closed"),
        ("<emphasis/>x", r"<emphasis/> holds no text"),
        ("x</emphasis>", r"</emphasis> closes no tag: none is open"),
        ('<break time="1s">', r"is written <break/>"),
        ('wait <break time="1s"', r"has no '>'"),
        ('<say-as interpret-as="digits">1<break/>2</say-as>', r"which takes text only"),
    ],
)
def test_wrong_markup_is_named(text: str, message: str) -> None:
    (problem,) = markup_problems(text)
    assert re.search(message, problem), problem


def test_crossed_elements_are_named() -> None:
    text = '<emphasis><prosody rate="slow">x</emphasis></prosody>'
    assert any(
        "</emphasis> closes no tag: the last one open is <prosody" in problem
        for problem in markup_problems(text)
    )


def test_right_markup_has_no_problems() -> None:
    text = (
        'Hi <break time="300ms"/> <prosody rate="slow">there <emphasis>you</emphasis>,</prosody> '
        'your PIN is <say-as interpret-as="digits">4821</say-as>, R&D &amp; 3 < 5.'
    )
    assert markup_problems(text) == []
