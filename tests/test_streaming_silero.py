"""The network of voice activity, put together from the shipped weights, says what that one says."""

from __future__ import annotations

from importlib import resources

import numpy as np
import onnx
import pytest
from speech import pause, say
from structlog.testing import capture_logs

from ringtrue.streaming.silero import UNITS, SileroModel, layers


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return resources.files("pipecat.audio.vad.data").joinpath("silero_vad.onnx").read_bytes()


def renamed(network: bytes) -> bytes:
    """The same network, its recurrent layer's weights under other names."""
    model = onnx.load_from_string(network)
    condition = next(node for node in model.graph.node if node.op_type == "If")
    for branch in condition.attribute:
        for node in branch.g.node:
            for names in (node.input, node.output):
                for at, name in enumerate(names):
                    names[at] = name.replace("decoder.rnn.weight_ih", "other")
            for inner in node.attribute:
                for within in inner.g.node:
                    for at, name in enumerate(within.input):
                        within.input[at] = name.replace("decoder.rnn.weight_ih", "other")
    return model.SerializeToString()


@pytest.mark.parametrize("rate", [8000, 16000])
def test_it_says_what_the_shipped_file_says(shipped: bytes, rate: int) -> None:
    ours = SileroModel()
    with capture_logs() as logs:
        theirs = SileroModel(renamed(shipped))
    assert [each["event"] for each in logs] == ["silero.unknown_layers"]
    said = np.concatenate([pause(0.5, rate), say("What are your opening hours?", rate, "rms")])
    spoken = said.astype(np.float32) / 32768
    context, step = rate // 250, rate * 32 // 1000
    states = [np.zeros((2, 1, UNITS), np.float32)] * 2
    heard = []
    for start in range(0, len(spoken) - step - context, step):
        window = spoken[start : start + context + step]
        expected, states[0] = theirs.run(window, states[0], rate)
        found, states[1] = ours.run(window, states[1], rate)
        assert found == pytest.approx(expected, abs=1e-5)
        np.testing.assert_allclose(states[1], states[0], atol=1e-4)
        heard.append(expected)
    assert min(heard) < 0.2
    assert max(heard) > 0.9


def test_missing_layers_are_named(shipped: bytes) -> None:
    with pytest.raises(KeyError, match=r"decoder\.rnn\.weight_ih"):
        layers(renamed(shipped), 8000)
