"""The trigram estimator: probabilities by hand, sums, the file format."""

from __future__ import annotations

import pytest

from ringtrue.streaming.recognizers.arpa import END, START, NgramModel

SENTENCES = [
    (["book", "a", "table"], 1.0),
    (["book", "a", "room"], 2.0),
    (["cancel", "a", "room"], 1.0),
    (["yes"], 0.5),
]


def test_witten_bell_by_hand() -> None:
    model = NgramModel([(["a", "b"], 1.0), (["a", "c"], 1.0)])
    # Words a, b, c, </s>; after "a": b and c once each, so T = 2 and c = 2.
    # Unigrams: counts a 2, b 1, c 1, </s> 2; T = 4, total 6.
    unigram_b = (1 + 4 * 0.25) / (6 + 4)
    bigram_b = (1 + 2 * unigram_b) / (2 + 2)
    assert model.probability("b", ()) == pytest.approx(unigram_b)
    assert model.probability("b", ("a",)) == pytest.approx(bigram_b)
    assert model.probability("b", (START, "a")) == pytest.approx((1 + 2 * bigram_b) / (2 + 2))


@pytest.mark.parametrize(
    "history",
    [(), (START,), ("a",), (START, "book"), ("book", "a"), ("room", END), ("never", "seen")],
)
def test_probabilities_sum_to_one(history: tuple[str, ...]) -> None:
    model = NgramModel(SENTENCES)
    total = sum(model.probability(word, history) for word in model.words)
    assert total == pytest.approx(1.0)


def read_arpa(text: str) -> dict[tuple[str, ...], tuple[float, float]]:
    """An independent reader: n-gram to its log probability and back-off."""
    grams: dict[tuple[str, ...], tuple[float, float]] = {}
    declared, found, order = {}, {}, 0
    for line in text.splitlines():
        if line.startswith("ngram "):
            length, count = line[6:].split("=")
            declared[int(length)] = int(count)
        elif line.endswith("-grams:"):
            order = int(line[1])
        elif "\t" in line:
            fields = line.split("\t")
            backoff = float(fields[2]) if len(fields) > 2 else 0.0
            grams[tuple(fields[1].split())] = (float(fields[0]), backoff)
            found[order] = found.get(order, 0) + 1
    assert declared == found
    return grams


def test_backing_off_through_the_file_gives_the_models_probabilities() -> None:
    model = NgramModel(SENTENCES)
    grams = read_arpa(model.arpa())

    def log10(word: str, history: tuple[str, ...]) -> float:
        if (*history, word) in grams:
            return grams[(*history, word)][0]
        weight = grams.get(history, (0.0, 0.0))[1]
        return weight + log10(word, history[1:])

    words = [START, *model.words]
    for first in words:
        for second in words:
            for word in model.words:
                wanted = model.probability(word, (first, second))
                assert 10 ** log10(word, (first, second)) == pytest.approx(wanted, rel=1e-4)


def test_extra_words_are_in_the_unigrams_only() -> None:
    model = NgramModel(SENTENCES, extra=[("um", 1.0)])
    assert "um" in model.words
    assert model.probability("um", ("book", "a")) > 0
    assert sum(model.probability(word, ("book",)) for word in model.words) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("sentences", "order", "message"),
    [
        ([], 3, "no sentences"),
        ([([], 1.0)], 3, "no sentences"),
        ([(["a"], 0.0)], 3, "weight must be above 0"),
        ([(["a"], 1.0)], 4, "order must be"),
    ],
)
def test_bad_input_is_named(
    sentences: list[tuple[list[str], float]], order: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NgramModel(sentences, order=order)
