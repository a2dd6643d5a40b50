"""Voices that hosted services speak: any Pipecat TTS service, behind the voices' contract."""

from ringtrue.voices.hosted.engine import HostedEngine, choose_engine, engine_names
from ringtrue.voices.hosted.line import HostedService

__all__ = ["HostedEngine", "HostedService", "choose_engine", "engine_names"]
