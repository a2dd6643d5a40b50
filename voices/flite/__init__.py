"""Flite's statistical voices, driven in-process for their parameters instead of their audio."""

from ringtrue.voices.flite.frontend import FliteVoice, Parameters
from ringtrue.voices.flite.library import VOICES, Flite
from ringtrue.voices.flite.text import spoken_tokens

__all__ = ["VOICES", "Flite", "FliteVoice", "Parameters", "spoken_tokens"]
