import numpy as np
from watermarking import KEY, marked, speech

from ringtrue.voices.watermark.frontend import whitened


def test_speech_comes_out_flat_and_bounded():
    out = whitened(speech(8000).astype(float))
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 2.5
    spectrum = np.abs(np.fft.rfft(out.reshape(-1, 800), axis=1)) ** 2
    band = spectrum.mean(axis=0)[40:320]
    assert band.max() / band.mean() < 10


def test_the_level_matters_little():
    host = marked(speech(8000), 8000).astype(float)
    loud, soft = whitened(host), whitened(host / 8)
    assert np.corrcoef(loud, soft)[0, 1] > 0.9


def test_the_chips_are_in_it():
    carrier = whitened(marked(speech(8000), 8000).astype(float))
    pilot = np.resize(KEY.detection.pilot, len(carrier))
    assert float(carrier @ pilot) / np.sqrt((carrier**2).sum()) > 15


def test_silence_shortness_and_odd_values_are_no_trouble():
    assert not whitened(np.zeros(8000)).any()
    assert not whitened(np.ones(10)).any()
    for value in (np.full(8000, 32767.0), np.eye(8000)[4000] * 32767):
        assert np.isfinite(whitened(value)).all()


def test_quiet_far_below_the_speech_is_heard_and_a_noisy_floor_is_not():
    rng = np.random.default_rng(3)
    loud = rng.normal(0, 3000, 8000)
    ratios = []
    for floor in (5.0, 500.0):
        carrier = whitened(np.concatenate([loud, rng.normal(0, floor, 8000)]))
        ratios.append(np.std(carrier[9000:15000]) / np.std(carrier[1000:7000]))
    assert 1.2 < ratios[0] < 4
    assert ratios[1] < 0.5
