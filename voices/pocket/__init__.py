"""Kyutai's pocket-tts behind the voices' contract: a neural model on the CPU, kept locally.

Nothing here imports torch when it is itself imported, and nothing reaches for a network:
:mod:`ringtrue.voices.pocket.backend` loads what ``ringtrue models fetch`` or an operator put down.
"""
