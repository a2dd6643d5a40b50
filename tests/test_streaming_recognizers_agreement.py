"""LocalAgreement-2 on scripted hypotheses."""

from __future__ import annotations

from ringtrue.streaming.recognizers.agreement import LocalAgreement, TimedWord


def words(text: str, *, start: float = 0.0, each: float = 0.4) -> list[TimedWord]:
    return [
        TimedWord(f" {word}", start + i * each, start + (i + 1) * each)
        for i, word in enumerate(text.split())
    ]


def texts(found: list[TimedWord]) -> str:
    return "".join(word.text for word in found).strip()


def test_only_what_two_hypotheses_share_is_confirmed() -> None:
    agreement = LocalAgreement()
    assert agreement.add(words("I want to")) == []
    assert texts(agreement.add(words("I want two rooms"))) == "I want"
    assert texts(agreement.add(words("I want two rooms please"))) == "two rooms"
    assert texts(agreement.tail) == "please"
    assert agreement.text() == "I want two rooms please"


def test_confirmed_words_are_never_taken_back() -> None:
    agreement = LocalAgreement()
    agreement.add(words("call me back"))
    agreement.add(words("call me back"))
    agreement.add(words("tall bee sack tomorrow"))
    agreement.close(words("tall bee sack tomorrow"))
    assert agreement.text() == "call me back tomorrow"


def test_case_and_punctuation_do_not_count_as_disagreement() -> None:
    agreement = LocalAgreement()
    agreement.add(words("yes please"))
    assert texts(agreement.add(words("Yes, please."))) == "Yes, please."


def test_disagreement_confirms_nothing() -> None:
    agreement = LocalAgreement()
    agreement.add(words("one two"))
    assert agreement.add(words("won two")) == []
    assert texts(agreement.tail) == "won two"


def test_word_repeated_at_the_seam_is_dropped() -> None:
    agreement = LocalAgreement()
    agreement.add(words("book a table"))
    agreement.add(words("book a table"))  # confirmed until 1.2 s
    late = words("a table for two", start=1.15)
    agreement.add(late)
    assert texts(agreement.tail) == "for two"


def test_a_word_really_said_twice_much_later_stays() -> None:
    agreement = LocalAgreement()
    agreement.add(words("yes"))
    agreement.add(words("yes"))
    agreement.close(words("yes", start=5.0))
    assert agreement.text() == "yes yes"


def test_close_confirms_the_tail_without_a_hypothesis() -> None:
    agreement = LocalAgreement()
    agreement.add(words("good morning"))
    agreement.close()
    assert texts(agreement.confirmed) == "good morning"
    assert agreement.tail == []


def test_forced_confirmation_stops_at_the_cut() -> None:
    agreement = LocalAgreement()
    agreement.add(words("a b c d"))
    agreement.confirm_until(0.8)
    assert texts(agreement.confirmed) == "a b"
    assert texts(agreement.tail) == "c d"
    assert agreement.confirmed_until == 0.8


def test_empty_hypotheses() -> None:
    agreement = LocalAgreement()
    assert agreement.add([]) == []
    agreement.close([])
    assert agreement.text() == ""
    assert agreement.confirmed_until == 0.0
