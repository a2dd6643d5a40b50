"""The call as a streaming graph: turns, recognition, language, speech, playout, the media clock and the gate."""
