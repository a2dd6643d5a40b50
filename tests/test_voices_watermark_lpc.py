import numpy as np

from ringtrue.voices.watermark.lpc import lag_window, predict


def inverse(signal: np.ndarray, order: int = 10) -> np.ndarray:
    out = np.empty(order + 1)
    predict(signal, np.hanning(len(signal)), lag_window(order, 8000), float(len(signal)), out)
    return out


def test_silence_predicts_nothing():
    assert np.array_equal(inverse(np.zeros(240)), np.eye(11)[0])


def test_a_resonance_is_found():
    rng = np.random.default_rng(1)
    poles = np.array([0.95 * np.exp(1j * 0.8), 0.95 * np.exp(-1j * 0.8)])
    a = np.real(np.poly(poles))
    x = np.zeros(4000)
    for n, e in enumerate(rng.normal(0, 1000, 4000)):
        x[n] = e - a[1] * x[n - 1] - a[2] * x[n - 2]
    assert np.allclose(inverse(x, 2), a, atol=0.1)


def test_the_filter_is_minimum_phase_for_any_signal():
    rng = np.random.default_rng(2)
    for scale in (1.0, 100.0, 30000.0):
        for signal in (rng.normal(0, scale, 240), scale * np.sin(np.arange(240) * 0.3)):
            assert (np.abs(np.roots(inverse(signal))) < 1).all()
