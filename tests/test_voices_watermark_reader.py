import audioop

import numpy as np
import pytest
import soxr
from watermarking import KEY, TOKEN, marked, speech

from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.errors import WatermarkError
from ringtrue.voices.watermark.keys import MarkKey
from ringtrue.voices.watermark.reader import read_token


def token_of(samples: np.ndarray, rate: int):
    found = detect(samples, rate, [KEY.detection])
    assert found is not None
    return read_token(samples, rate, KEY, found)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_token_is_read(rate: int):
    assert token_of(marked(speech(rate), rate), rate) == TOKEN


def test_from_the_middle_after_mu_law():
    pcm = marked(speech(8000), 8000)[11_111:]
    law = np.frombuffer(audioop.ulaw2lin(audioop.lin2ulaw(pcm.tobytes(), 2), 2), "<i2")
    assert token_of(law, 8000) == TOKEN


def test_inverted_resampled_and_quieter():
    pcm = marked(speech(16000), 16000).astype(np.float32) / -131072
    assert token_of(soxr.resample(pcm, 16000, 44100), 44100) == TOKEN


def test_with_a_drifting_clock():
    pcm = marked(speech(16000), 16000).astype(np.float32) / 32768
    drifted = soxr.resample(pcm, 48000, 48000 * 0.9999).astype(np.float32)
    assert token_of(drifted, 16000) == TOKEN


def test_unmarked_speech_has_none():
    assert token_of(speech(8000), 8000) is None


def test_a_finding_of_another_key_is_refused():
    pcm = marked(speech(8000), 8000)
    found = detect(pcm, 8000, [KEY.detection])
    assert found is not None
    with pytest.raises(WatermarkError, match="found by key"):
        read_token(pcm, 8000, MarkKey(bytes(32)), found)
