"""Lock-step against the library itself: the same numbers, whoever else speaks at the time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pocket_model import make_model

torch = pytest.importorskip("torch", reason="torch is in the extra: pocket")
pytest.importorskip("pocket_tts", reason="pocket-tts is in the extra: pocket")

from ringtrue.voices.pocket.backend import Backend, load  # noqa: E402
from ringtrue.voices.pocket.files import open_directory  # noqa: E402
from ringtrue.voices.pocket.generation import Generator, Lane  # noqa: E402
from ringtrue.voices.pocket.lanes import (  # noqa: E402
    attentions,
    joined,
    length_of,
    parted,
    turned,
)

TEXTS = [
    "Good morning to you, my friend.",
    "Yes.",
    "The office is open on Saturdays until noon.",
    "Please hold the line.",
]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return load(open_directory(make_model(tmp_path_factory.mktemp("pocket"))))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return load(open_directory(make_model(tmp_path_factory.mktemp("endless"), ends=False)))


def prompt(backend: Backend, seed: int, seconds: float = 1.0) -> Any:
    noise = np.random.default_rng(seed).standard_normal(int(24000 * seconds)) * 0.1
    audio = torch.from_numpy(noise.astype(np.float32))[None]
    return backend.model.get_state_for_audio_prompt(audio)


def library(backend: Backend, state: Any, text: str) -> np.ndarray:
    return np.asarray(backend.model.generate_audio(state, text).numpy())


def finished(generator: Generator, lanes: list[Lane]) -> list[np.ndarray]:
    """Carry ``lanes`` on to their ends, together."""
    frames: list[list[np.ndarray]] = [[] for _ in lanes]
    while any(not lane.over for lane in lanes):
        alive = [index for index, lane in enumerate(lanes) if not lane.over]
        steps = generator.step([lanes[index] for index in alive])
        for index, frame in zip(alive, steps, strict=True):
            frames[index].append(frame)
    return [np.concatenate(part) for part in frames]


@pytest.mark.parametrize("text", TEXTS)
def test_one_text_is_what_the_library_makes_of_it(backend: Backend, text: str) -> None:
    state = prompt(backend, 1)
    generator = Generator(backend)
    lane = generator.begin(state, generator.texts(text)[0])
    (mine,) = finished(generator, [lane])
    theirs = library(backend, state, text)
    assert np.abs(theirs).max() > 0.01
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_texts_begun_at_different_times_in_different_voices_don_t_disturb_each_other(
    endless: Backend,
) -> None:
    states = [prompt(endless, seed, 0.5 + 0.7 * seed) for seed in range(4)]
    generator = Generator(endless)
    lanes: list[Lane] = []
    frames: list[list[np.ndarray]] = [[] for _ in TEXTS]
    waiting = list(range(4))
    step = 0
    while waiting or any(not lane.over for lane in lanes):
        if waiting and step % 5 == 0:
            index = waiting.pop(0)
            lanes.append(generator.begin(states[index], generator.texts(TEXTS[index])[0]))
        alive = [i for i, lane in enumerate(lanes) if not lane.over and (i + step) % 7]
        if alive:
            for i, frame in zip(alive, generator.step([lanes[i] for i in alive]), strict=True):
                frames[i].append(frame)
        step += 1
    for index, text in enumerate(TEXTS):
        theirs = library(endless, states[index], text)
        mine = np.concatenate(frames[index])
        assert mine.shape == theirs.shape
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(mine, theirs, atol=2e-4 * float(np.abs(theirs).max()))


def test_the_voice_s_own_state_is_never_changed(backend: Backend) -> None:
    state = prompt(backend, 2)
    before = {name: entries["cache"].clone() for name, entries in state.items()}
    length = length_of(state)
    generator = Generator(backend)
    finished(generator, [generator.begin(state, generator.texts(text)[0]) for text in TEXTS[:2]])
    assert length_of(state) == length
    for name, cache in before.items():
        assert torch.equal(torch.nan_to_num(cache), torch.nan_to_num(state[name]["cache"]))


def test_a_text_ends_even_where_the_model_never_does(endless: Backend) -> None:
    generator = Generator(endless)
    lane = generator.begin(prompt(endless, 1), "Yes.")
    (sound,) = finished(generator, [lane])
    tokens = endless.model.flow_lm.conditioner.prepare("Yes.").shape[1]
    assert len(sound) == endless.frame * int(np.ceil((tokens / 3 + 2) * 12.5))


@pytest.mark.parametrize("phrase", ["", "  ", "...", "—", "?!", "🙂"])
def test_what_can_t_be_spoken_has_no_texts(backend: Backend, phrase: str) -> None:
    assert Generator(backend).texts(phrase) == []


def test_a_long_phrase_is_taken_apart(backend: Backend) -> None:
    assert len(Generator(backend).texts(" ".join(TEXTS))) > 1


def test_turned_keys_score_as_if_they_stood_elsewhere() -> None:
    rope = pytest.importorskip("pocket_tts.modules.rope")
    keys = torch.randn(1, 7, 2, 16)
    _, here = rope.apply_rope(keys, keys, offset=3)
    _, there = rope.apply_rope(keys, keys, offset=45)
    torch.testing.assert_close(turned(torch, here[0], 42, 10_000), there[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned(torch, there[0], -42, 10_000), here[0], atol=1e-5, rtol=0)


def test_joining_and_parting_gives_back_what_went_in(backend: Backend) -> None:
    layers = attentions(backend.model.flow_lm)
    states = [prompt(backend, seed, 0.5 + seed) for seed in range(3)]
    batch = joined(torch, states, layers, room=4)
    for row, state in enumerate(states):
        back = parted(torch, batch, row, layers)
        end = length_of(state)
        assert length_of(back) == end
        for name, entries in state.items():
            torch.testing.assert_close(
                back[name]["cache"], entries["cache"][:, :, :end], atol=1e-5, rtol=0
            )
