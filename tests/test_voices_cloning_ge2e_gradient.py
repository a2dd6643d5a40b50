"""The network in NumPy: the same embeddings as the encoder's, and true derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from speech import say

from ringtrue.voices.cloning.ge2e_gradient import DifferentiableEncoder
from ringtrue.voices.encoder import SpeakerEncoder
from ringtrue.voices.encoder.speaker import network_input
from ringtrue.voices.encoder.speech import speech_only

TEXT = "your table is booked for thursday evening, and we look forward to seeing you then."


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return say(TEXT, rate=16000, voice="slt")


@pytest.fixture(scope="module")
def mels(samples: np.ndarray) -> np.ndarray:
    return network_input(speech_only(samples, 16000))


@pytest.fixture(scope="module")
def network() -> DifferentiableEncoder:
    return DifferentiableEncoder()


def test_embeds_as_the_encoder_does(
    network: DifferentiableEncoder, mels: np.ndarray, samples: np.ndarray
) -> None:
    expected = SpeakerEncoder.load().embed_windows(samples, 16000)
    found = network.forward(mels).embeddings
    assert (found * expected).sum(axis=1).min() > 0.998


def test_derivatives_are_those_of_finite_differences(
    network: DifferentiableEncoder, mels: np.ndarray
) -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(mels.shape[1], 256)).astype(np.float32)
    slope = network.backward(network.forward(mels), weights)
    for _ in range(4):
        # Single precision: along a random half of what raises the loss, so that it stands out.
        half = rng.random(mels.shape) < 0.5
        direction = (np.sign(slope) * mels * half).astype(np.float32)
        step = np.float32(1e-3)
        ahead, behind = (
            float((network.forward(mels + side * step * direction).embeddings * weights).sum())
            for side in (1, -1)
        )
        numeric = (ahead - behind) / (2 * step)
        told = float((slope * direction).sum())
        assert told == pytest.approx(numeric, rel=0.03)


def test_derivatives_are_those_of_torch(network: DifferentiableEncoder, mels: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(40, 256, 3)
    with torch.no_grad():
        for index, layer in enumerate(network._layers):
            # Ours keeps sigmoid gates at half scale, in the order input, output, forget, cell.
            scale = np.repeat(np.float32([2, 2, 2, 1]), 256)
            order = [0, 2, 3, 1]

            def gates(
                columns: np.ndarray, scale: np.ndarray = scale, order: list[int] = order
            ) -> object:
                parts = np.split((columns * scale).T, 4)
                return torch.from_numpy(np.concatenate([parts[i] for i in order]).copy())

            getattr(lstm, f"weight_ih_l{index}").copy_(gates(layer.inputs))
            getattr(lstm, f"weight_hh_l{index}").copy_(gates(layer.states))
            getattr(lstm, f"bias_ih_l{index}").copy_(gates(layer.bias[None])[:, 0])
            getattr(lstm, f"bias_hh_l{index}").zero_()
    inputs = torch.from_numpy(mels.copy()).requires_grad_()
    hidden = lstm(inputs)[0][-1]
    raw = torch.relu(
        hidden @ torch.from_numpy(network._last).T + torch.from_numpy(network._last_bias)
    )
    embedded = raw / raw.norm(dim=1, keepdim=True)
    weights = np.random.default_rng(5).normal(size=tuple(embedded.shape)).astype(np.float32)
    (embedded * torch.from_numpy(weights)).sum().backward()
    run = network.forward(mels)
    np.testing.assert_allclose(run.embeddings, embedded.detach().numpy(), atol=1e-5)
    expected = inputs.grad.numpy()
    found = network.backward(run, weights)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
