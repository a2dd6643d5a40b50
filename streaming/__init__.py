"""The call as a streaming graph: turns, recognition, language, speech, playout, clock and gate."""
