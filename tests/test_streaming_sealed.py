"""Sealed frames."""

from __future__ import annotations

import copy
import pickle

import pytest
from gates import SPEECH, Voice, make

from ringtrue.streaming.errors import GateError
from ringtrue.streaming.gate import SealedFrame


def test_sealed_frames_cant_be_made_changed_copied_or_subclassed() -> None:
    gate = make()
    frame = gate.admit(Voice(gate).says(), 0.0)
    with pytest.raises(GateError):
        SealedFrame(SPEECH, 8000)
    with pytest.raises(AttributeError):
        frame.pcm = b""
    with pytest.raises(AttributeError):
        del frame.pcm
    with pytest.raises(TypeError):
        copy.copy(frame)
    with pytest.raises(TypeError):
        pickle.dumps(frame)
    with pytest.raises(TypeError):
        type("Forged", (SealedFrame,), {})
    assert frame == frame
    assert frame != gate.admit(Voice(gate).says(), 0.0)


def test_a_frame_shows_no_audio() -> None:
    gate = make()
    frame = gate.admit(Voice(gate).says(), 0.0)
    assert repr(frame) == "<SealedFrame 0 of c1>"
    assert str(frame) == repr(frame)
