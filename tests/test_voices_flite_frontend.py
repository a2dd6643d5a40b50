"""Parameters of a phrase, and that no text can end the process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ringtrue.voices.flite import VOICES, Flite, FliteVoice, spoken_tokens
from ringtrue.voices.flite.frontend import MAX_TOKENS

PHRASE = "thank you for calling, how can i help you today?"

HOSTILE = r"""
import random, sys
from ringtrue.streaming.normalize import normalize
from ringtrue.voices.flite import Flite, FliteVoice, spoken_tokens
from ringtrue.voices.flite.frontend import MAX_TOKENS

voice = FliteVoice(Flite(), "slt")
rng = random.Random(7)
letters = "abcdefghijklmnopqrstuvwxyz"
texts = [
    "", " ", "...", "?!", "'", "''", "-", "a-", "\0", "\0abc\0", "\x1b[2J\x07", "🙂🙃",
    "x" * 10_000, "word " * 2_000, "%s%n%d", "<speak>hi</speak>", "$", "1/0",
    "0/0/0", "99:99", "-" * 500,
    "' s 's t's", "II IV XL", "a.b.c.d.e", "1e999", "NaN", "\u202etxet", "ﬁ", "日本語", "ZZZZZZ",
    "1" * 400, "$" + "9" * 100, "1.2.3.4.5.6.7.8.9", "am am am", "st. st. st.", "_a _b",
]
for _ in range(150):
    texts.append("".join(chr(rng.choice([rng.randrange(1, 128), rng.randrange(0x20, 0x2FF)]))
                         for _ in range(rng.randrange(60))))
for _ in range(250):
    texts.append(" ".join("".join(rng.choice(letters + "'") for _ in range(rng.randrange(1, 12)))
                          for _ in range(rng.randrange(1, 6))))
spoken = 0
for text in texts:
    tokens = [t for pair in normalize(text) for t in spoken_tokens(pair.spoken)][:MAX_TOKENS]
    if tokens:
        found = voice.analyse(tokens)
        assert len(found.token_ends) == len(tokens) and len(found.f0) > 0
        spoken += 1
print("survived", len(texts), spoken)
"""


@pytest.fixture(scope="module")
def flite() -> Flite:
    return Flite()


@pytest.fixture(scope="module", params=VOICES)
def voice(request: pytest.FixtureRequest, flite: Flite) -> FliteVoice:
    return FliteVoice(flite, request.param)


def test_shapes_and_ranges(voice: FliteVoice) -> None:
    found = voice.analyse(spoken_tokens(PHRASE))
    frames = len(found.f0)
    assert found.mcep.shape == (frames, 25)
    assert found.strengths.shape == (frames, 5)
    assert 300 < frames < 1000
    voiced = found.f0 > 0
    assert 0.3 < voiced.mean() < 0.9
    assert np.all((found.f0[voiced] > 50) & (found.f0[voiced] < 500))
    assert np.isfinite(found.mcep).all()


def test_every_token_has_its_end(voice: FliteVoice) -> None:
    tokens = spoken_tokens(PHRASE)
    found = voice.analyse(tokens)
    ends = found.token_ends
    assert len(ends) == len(tokens)
    assert all(a < b for a, b in zip(ends, ends[1:], strict=False))
    phone_ends = {end for name, end in found.phones if name != "pau"}
    assert set(ends) <= phone_ends
    last_phone = [end for name, end in found.phones if name != "pau"][-1]
    assert ends[-1] == last_phone


def test_punctuation_pauses(flite: Flite) -> None:
    voice = FliteVoice(flite, "slt")
    with_comma = voice.analyse(["well,", "yes."]).phones
    without = voice.analyse(["well", "yes."]).phones
    assert [name for name, _ in with_comma].count("pau") == 3
    assert [name for name, _ in without].count("pau") == 2


def test_letters_are_named(flite: Flite) -> None:
    voice = FliteVoice(flite, "slt")
    phones = [name for name, _ in voice.analyse(["a-", "b-", "w-"]).phones if name != "pau"]
    assert phones == ["ey", "b", "iy", *["d", "ah", "b", "ax", "l", "y", "uw"]]


def test_threads_get_what_one_thread_gets(flite: Flite) -> None:
    voices = [FliteVoice(flite, name) for name in VOICES]
    phrases = [
        spoken_tokens(text) for text in (PHRASE, "good morning.", "it's nine thirty, isn't it?")
    ]
    jobs = [(voice, tokens) for voice in voices for tokens in phrases] * 4
    alone = [voice.analyse(tokens) for voice, tokens in jobs[: len(jobs) // 4]] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: job[0].analyse(job[1]), jobs))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.mcep, other.mcep)
        assert np.array_equal(one.f0, other.f0)
        assert np.array_equal(one.strengths, other.strengths)
        assert one.phones == other.phones
        assert one.token_ends == other.token_ends


@pytest.mark.parametrize("count", [0, MAX_TOKENS + 1])
def test_the_number_of_tokens_is_bounded(flite: Flite, count: int) -> None:
    with pytest.raises(ValueError, match=f"1..{MAX_TOKENS}, got {count}"):
        FliteVoice(flite, "slt").analyse(["a"] * count)


def test_no_text_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("survived")
    assert int(done.stdout.split()[2]) > 250
