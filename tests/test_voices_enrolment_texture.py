import numpy as np
import pytest
from enrolment_material import RATE, spoken, with_noise
from real_speech import SPEAKERS, prompt

from ringtrue.voices.cloning.analysis import analyse
from ringtrue.voices.enrolment.texture import (
    BINS,
    EVERY,
    HIDDEN,
    HOP,
    SHAPES,
    TRAITS,
    TextureNetwork,
    active,
    prepared,
    shipped,
    texture,
    traits,
)
from ringtrue.voices.fargan.vocoder import NeuralVocoder


def network(seed: int = 1) -> TextureNetwork:
    rng = np.random.default_rng(seed)
    weights, biases, inputs, bins = [], [], 1, BINS
    for shape in SHAPES:
        size = shape.kernel[0] * shape.kernel[1] * inputs
        weights.append(rng.normal(0, 0.3, (size, shape.channels)).astype(np.float32))
        biases.append(rng.normal(0, 0.2, shape.channels).astype(np.float32))
        inputs, bins = shape.channels, -(-bins // shape.step[1])
    for before, after in ((bins * inputs, HIDDEN), (HIDDEN, 1)):
        weights.append(rng.normal(0, 0.1, (before, after)).astype(np.float32))
        biases.append(rng.normal(0, 0.2, after).astype(np.float32))
    return TextureNetwork(tuple(weights), tuple(biases))


def seen_of(samples: np.ndarray) -> np.ndarray:
    found = texture(samples)
    assert found is not None
    return found


@pytest.mark.parametrize("frames", [90, 91])
def test_is_the_network_that_was_taught(frames: int) -> None:
    torch = pytest.importorskip("torch")
    made = network()
    seen = np.random.default_rng(2).normal(0.5, 1, (frames, BINS)).astype(np.float32)
    values = torch.from_numpy(prepared(seen))[None, None]
    inputs = 1
    for number, shape in enumerate(SHAPES):
        kernel = made.weights[number].reshape(*shape.kernel, inputs, shape.channels)
        values = torch.nn.functional.conv2d(
            values,
            torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
            torch.from_numpy(made.biases[number]),
            shape.step,
            (shape.kernel[0] // 2, shape.kernel[1] // 2),
        ).relu()
        inputs = shape.channels
    flat = values.permute(0, 2, 3, 1).flatten(2)[0].numpy()
    hidden = np.maximum(flat @ made.weights[-2] + made.biases[-2], 0)
    wanted = (hidden @ made.weights[-1] + made.biases[-1])[:, 0]
    assert np.allclose(made.odds(seen), wanted, atol=1e-3)


def test_level_and_microphone_say_nothing() -> None:
    samples = spoken()
    seen = seen_of(samples)
    assert np.allclose(seen, seen_of(np.float32(0.05) * samples), atol=0.02)
    tilted = seen + np.linspace(-0.2, 0.2, BINS).astype(np.float32)
    assert np.allclose(prepared(seen), prepared(tilted), atol=0.05)


def test_only_what_is_loud_is_looked_at() -> None:
    samples = with_noise(np.concatenate([spoken(), np.zeros(2 * RATE)]), -60.0)
    loud = active(seen_of(samples.astype(np.float32)))
    assert 0.2 < loud.mean() < 0.8
    assert not loud[-2 * RATE // HOP + 10 :].any()


@pytest.mark.parametrize("samples", [np.zeros(2 * RATE, np.float32), np.ones(100, np.float32)])
def test_says_nothing_of_silence_and_scraps(samples: np.ndarray) -> None:
    assert texture(samples) is None


def test_there_is_an_answer_for_every_other_frame() -> None:
    seen = seen_of(spoken())
    odds = network().odds(seen)
    assert len(odds) == -(-len(seen) // EVERY)
    assert traits(odds, seen).shape == (len(TRAITS),)


def test_what_is_not_loud_takes_no_part_in_the_traits() -> None:
    seen = seen_of(np.concatenate([spoken(), np.zeros(2 * RATE, np.float32)]))
    odds = np.where(active(seen)[::EVERY], 3.0, -9.0).astype(np.float32)
    assert traits(odds, seen).tolist() == [3.0] * len(TRAITS)


def test_hears_a_neural_vocoder_in_the_same_words() -> None:
    higher = []
    for who in SPEAKERS:
        real = prompt(who, "vm-options")[: 6 * RATE]
        frames, stream = analyse(real), NeuralVocoder().stream()
        copy = stream.render(frames.f0, frames.mcep, frames.strengths).astype(np.float32)
        heard = [seen_of(each) for each in (real, copy)]
        scores = [float(traits(shipped().odds(seen), seen)[0]) for seen in heard]
        higher.append(scores[1] > scores[0] + 1)
    assert all(higher)
