"""smart-turn's network as it is run here, beside the file as it is shipped."""

from __future__ import annotations

from importlib import resources

import numpy as np
import onnx
import pytest
from pipecat.audio.turn.smart_turn._whisper_features import compute_whisper_log_mel_features
from speech import pause, say
from structlog.testing import capture_logs

from ringtrue.streaming.dsp import resample_segment
from ringtrue.streaming.turns.features import RATE, SECONDS, log_mel
from ringtrue.streaming.turns.network import (
    TurnNetwork,
    UnknownNetworkError,
    heard_frames,
    lighten,
)

WHOLE = "Where is my order?"
PART = 0.75
"""Of it, at which it ends in the middle of a word."""


@pytest.fixture(scope="module")
def shipped() -> bytes:
    folder = resources.files("pipecat.audio.turn.smart_turn.data")
    return folder.joinpath("smart-turn-v3.2-cpu.onnx").read_bytes()


@pytest.fixture(scope="module")
def network() -> TurnNetwork:
    return TurnNetwork()


def turn(share: float = 1.0) -> np.ndarray:
    """The question, or its beginning, at 16 kHz with a pause before and after."""
    said = say(WHOLE, 8000, "rms")
    said = said[: int(share * len(said))]
    return resample_segment(np.concatenate([pause(0.5), said, pause(0.2)]), 8000, RATE)


@pytest.mark.parametrize("seconds", [3.0, 8.0, 11.0])
def test_features_are_those_of_eight_seconds_cut_off(seconds: float) -> None:
    rng = np.random.default_rng(5)
    audio = (0.1 * rng.normal(size=int(seconds * RATE))).astype(np.float32)
    audio *= np.linspace(0, 1, len(audio), dtype=np.float32)
    eight = np.zeros(SECONDS * RATE, np.float32)
    heard = audio[-len(eight) :]
    eight[len(eight) - len(heard) :] = heard
    expected = compute_whisper_log_mel_features(eight)
    np.testing.assert_allclose(log_mel(audio, 800), expected, atol=2e-3)
    # The first of a part has its mirror image before it, the loudest may lie before the part.
    np.testing.assert_allclose(log_mel(audio, 400)[:, 2:], expected[:, 402:], atol=2e-3)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.5, 400), (3.0, 400), (3.203, 422), (7.0, 800), (20.0, 800)]
)
def test_it_hears_the_turn_and_a_second_before(seconds: float, frames: int) -> None:
    assert heard_frames(seconds) == frames


def test_whole_questions_are_complete_and_halves_are_not(network: TurnNetwork) -> None:
    assert network.probability(turn()) > 0.5
    assert network.probability(turn(PART)) < 0.5


def test_what_is_too_long_is_judged_by_its_end(network: TurnNetwork) -> None:
    end = np.concatenate([np.tile(turn(PART), 5), turn()])
    assert len(end) > SECONDS * RATE
    longer = np.concatenate([turn(), end])
    assert network.probability(longer) == pytest.approx(network.probability(end), abs=0.02)


def test_an_unknown_file_is_run_as_it_is(shipped: bytes) -> None:
    other = onnx.load_from_string(shipped)
    name = "inner.encoder.embed_positions.weight"
    for node in other.graph.node:
        node.input[:] = ["positions_of_another" if each == name else each for each in node.input]
    next(h for h in other.graph.initializer if h.name == name).name = "positions_of_another"
    with pytest.raises(UnknownNetworkError, match=name):
        lighten(onnx.load_from_string(other.SerializeToString()))
    with capture_logs() as logs:
        network = TurnNetwork(other.SerializeToString())
    assert [each["event"] for each in logs] == ["smart_turn.unknown_layers"]
    assert network.probability(turn()) > 0.5


def test_other_attention_is_not_taken_apart(shipped: bytes) -> None:
    other = onnx.load_from_string(shipped)
    softmax = next(node for node in other.graph.node if node.op_type == "Softmax")
    softmax.op_type = "LogSoftmax"
    with pytest.raises(UnknownNetworkError):
        lighten(other)
