"""The neural vocoder's network against a plain reading of it, in double precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringtrue.voices.errors import EngineUnavailableError
from ringtrue.voices.fargan.network import FEATURES, FRAME, Memory, synthesize
from ringtrue.voices.fargan.weights import INTEGER_LAYERS, REAL_LAYERS, Weights, read, shipped

Array = npt.NDArray[np.float64]


def features(count: int, seed: int = 4) -> npt.NDArray[np.float32]:
    """Voiced frames of a falling pitch and a wandering spectrum."""
    rng = np.random.default_rng(seed)
    found = np.cumsum(rng.normal(0.0, 0.1, (count, FEATURES)), axis=0)
    found[:, 0] -= 1.0
    found[:, 18] = np.linspace(0.2, -0.3, count)
    found[:, 19] = 0.3
    return np.asarray(found, np.float32)


class Reading:
    """The network written down layer by layer, nothing rounded."""

    def __init__(self, weights: Weights) -> None:
        """Widen all layers."""
        self._layers = {
            name: (weights.matrices[i].astype(float), weights.biases[i].astype(float))
            for i, name in enumerate(REAL_LAYERS)
        }
        for i, name in enumerate(INTEGER_LAYERS):
            scale = weights.scales[i].astype(float)[:, None] * 127.0
            self._layers[name] = (weights.integers[i] * scale, weights.offsets[i].astype(float))
        self._embedding = weights.embedding.astype(float)
        self._window = np.zeros((3, 64))
        self._history = np.zeros(256)
        self._before = np.zeros(164)
        self._cells = [np.zeros(160), np.zeros(128), np.zeros(128)]
        self._out = 0.0
        self._period = 255

    def layer(self, name: str, given: Array) -> Array:
        """One linear layer."""
        matrix, bias = self._layers[name]
        return np.asarray(matrix @ given + bias)

    def frame(self, features: Array) -> Array:
        """160 samples."""
        period = int(np.floor(0.5 + 256.0 / 2.0 ** (features[18] + 1.5)))
        embedded = self._embedding[np.clip(period - 32, 0, 223)]
        newest = np.tanh(self.layer("cond_net_fdense1", np.concatenate([features, embedded])))
        self._window = np.concatenate([self._window[1:], newest[None]])
        hidden = np.tanh(self.layer("cond_net_fconv1", self._window.ravel()))
        conditions = np.tanh(self.layer("cond_net_fdense2", hidden)).reshape(4, 80)
        sound = np.concatenate([self._subframe(condition) for condition in conditions])
        self._period = period
        out = np.empty(len(sound))
        for i, value in enumerate(sound):
            self._out = value + 0.85 * self._out
            out[i] = self._out
        return out

    def _subframe(self, condition: Array) -> Array:
        level = min(1.0, float(np.exp(self.layer("sig_net_cond_gain_dense", condition)[0])))
        cycle = self._history[-self._period :]
        ahead = np.array([*self._history[-self._period - 2 : -self._period], 0.0, 0.0][:2])
        tiled = np.concatenate([ahead, np.resize(cycle, 42)])
        predicted = np.clip(tiled / (1e-5 + level), -1, 1)
        previous = np.clip(self._history[-40:] / (1e-5 + level), -1, 1)
        now = np.concatenate([condition, predicted, previous])
        first = np.tanh(self.layer("sig_net_fwc0_conv", np.concatenate([self._before, now])))
        self._before = now
        first = first * sigmoid(self.layer("sig_net_fwc0_glu_gate", first))
        gates = sigmoid(self.layer("sig_net_gain_dense_out", first))
        outputs, given = [], first
        for i in range(3):
            beside = np.concatenate([given, gates[i] * predicted[2:42], previous])
            given = self._recurrent(i, beside)
            outputs.append(given)
        skip = np.concatenate([*outputs, first, gates[3] * predicted[2:42], previous])
        summed = np.tanh(self.layer("sig_net_skip_dense", skip))
        summed = summed * sigmoid(self.layer("sig_net_skip_glu_gate", summed))
        sound = np.asarray(np.tanh(self.layer("sig_net_sig_dense_out", summed)) * level)
        self._history = np.concatenate([self._history[40:], sound])
        return sound

    def _recurrent(self, i: int, given: Array) -> Array:
        name, cells = f"sig_net_gru{i + 1}", self._cells[i]
        update, reset, new = np.split(self.layer(f"{name}_input", given), 3)
        old_update, old_reset, old_new = np.split(self.layer(f"{name}_recurrent", cells), 3)
        keep = sigmoid(update + old_update)
        fresh = np.tanh(new + old_new * sigmoid(reset + old_reset))
        self._cells[i] = keep * cells + (1.0 - keep) * fresh
        return np.asarray(self._cells[i] * sigmoid(self.layer(f"{name}_glu_gate", self._cells[i])))


def sigmoid(values: Array) -> Array:
    """The logistic function."""
    return np.asarray(1.0 / (1.0 + np.exp(-values)))


def test_it_computes_what_a_plain_reading_of_the_network_does() -> None:
    given = features(12)
    reading = Reading(shipped())
    expected = np.concatenate([reading.frame(row) for row in given.astype(np.float64)])
    found = synthesize(shipped(), Memory(), given)
    assert np.abs(expected).max() > 0.02
    # Rounding feeds back through the past samples, so it grows with time.
    assert np.abs(found - expected)[: 4 * FRAME].max() < 5e-3 * np.abs(expected).max()
    assert np.corrcoef(found, expected)[0, 1] > 0.999


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_chunking_gives_the_same_samples(size: int) -> None:
    given = features(20)
    whole = synthesize(shipped(), Memory(), given)
    memory = Memory()
    parts = [synthesize(shipped(), memory, given[at : at + size]) for at in range(0, 20, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_copied_memory_goes_on_alone() -> None:
    memory = Memory()
    synthesize(shipped(), memory, features(5))
    held = memory.copy()
    first = synthesize(shipped(), memory, features(5, seed=5))
    np.testing.assert_array_equal(synthesize(shipped(), held, features(5, seed=5)), first)


@pytest.mark.parametrize("value", [-30.0, 30.0, 1e6])
def test_no_features_drive_it_out_of_bounds(value: float) -> None:
    found = synthesize(shipped(), Memory(), np.full((30, FEATURES), value, np.float32))
    assert np.abs(found).max() <= 1.0 / (1.0 - 0.85)  # of de-emphasis at the greatest gain


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="20"):
        synthesize(shipped(), Memory(), np.zeros((3, 19), np.float32))


def test_other_weights_are_refused() -> None:
    with pytest.raises(EngineUnavailableError, match="SHA-256"):
        read(b"something else")
