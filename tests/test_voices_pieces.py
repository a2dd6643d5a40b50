"""Phrases as pieces of bounded work, with the style of every token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringtrue.streaming.ssml import PLAIN, Style, escaped
from ringtrue.voices.pieces import MAX_WORDS, Piece, pieces


@given(st.text() | st.text("ab1 .,<>&/\"='", max_size=80))
def test_every_piece_is_bounded_and_the_last_is_marked(text: str) -> None:
    found = pieces(text)
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True]
    for piece in found:
        assert len(piece.tokens) <= MAX_WORDS
        assert len(piece.styles) == len(piece.tokens)
        assert (piece.pause is None) or not (piece.tokens or piece.words)


@given(st.text())
def test_no_word_is_lost(text: str) -> None:
    written = [word for piece in pieces(escaped(text)) for word, _ in piece.words]
    assert "".join("".join(word.split()) for word in written) == "".join(text.split())


def test_tokens_have_the_style_of_their_word() -> None:
    slow = Style(rate=0.8)
    assert pieces('one <prosody rate="slow">21 men</prosody> go<break time="1s"/>') == [
        Piece(
            (("one", 1), ("21", 3), ("men", 4), ("go", 5)),
            ("one", "twenty", "one", "men", "go"),
            (PLAIN, slow, slow, slow, PLAIN),
        ),
        Piece(pause=200, last=True),
    ]


def test_a_word_has_the_style_of_its_beginning() -> None:
    (piece,) = pieces("un<emphasis>happy</emphasis>")
    assert (piece.words, piece.styles) == ((("unhappy", 1),), (PLAIN,))


def test_a_long_reading_is_said_in_several_pieces() -> None:
    digits = "12345" * 8
    found = pieces(f'<emphasis><say-as interpret-as="digits">{digits}</say-as></emphasis>')
    assert sum(len(piece.tokens) for piece in found) == 40
    assert [word for piece in found for word, _ in piece.words] == [digits]
    assert all(style != PLAIN for piece in found for style in piece.styles)


def test_nothing_is_one_empty_piece() -> None:
    assert pieces("") == [Piece(last=True)]
    assert pieces("<x/>") == [Piece(last=True)]
