from datetime import UTC, datetime

import numpy as np
from watermarking import KEY, speech

from ringtrue.streaming.gate import Draft, FrameKind, Gate
from ringtrue.voices.watermark.detector import detect
from ringtrue.voices.watermark.keyring import MarkKeys
from ringtrue.voices.watermark.marker import Marker

NOW = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)


def test_what_leaves_the_gate_tells_its_session():
    marker = Marker(MarkKeys.of(KEY), 8000, NOW)
    gate = Gate("call", 8000, opened_at=0.0, last_heard=lambda: 0.0, watermarker=marker)
    ticket = gate.open_utterance()
    sealer = gate.provenance.utterance()
    frames = speech(8000).reshape(-1, 160)
    sent = [
        gate.admit(Draft.whole(ticket, sealer.seal(frame.tobytes(), 0.0)), 0.02 * n).pcm
        for n, frame in enumerate(frames)
    ]
    heard = np.frombuffer(b"".join(sent), "<i2")
    (token,) = detect(heard, 8000, [KEY]).tokens
    assert token == marker.token
    assert marker.id == f"rt1:{KEY.id}:{token.session:08x}"
    assert token.time == NOW


def test_sessions_differ():
    made = {Marker(MarkKeys.of(KEY), 16000, NOW).token.session for _ in range(20)}
    assert len(made) == 20


def test_the_mark_of_a_sound_that_was_cut_does_not_ring_on_into_the_silence():
    marker = Marker(MarkKeys.of(KEY), 8000, NOW)
    loud = speech(8000)
    at = int(np.abs(loud).reshape(-1, 160).max(axis=1).argmax())
    for frame in loud.reshape(-1, 160)[: at + 1]:
        marker.mark(frame.tobytes(), FrameKind.SPEECH)
    silence = bytes(320)
    after = np.frombuffer(marker.mark(silence, FrameKind.SILENCE), "<i2")
    settled = Marker(MarkKeys.of(KEY), 8000, NOW)
    quiet = np.frombuffer(settled.mark(silence, FrameKind.SILENCE), "<i2")
    assert 0 < np.abs(after).max() < 3 * np.abs(quiet).max()
