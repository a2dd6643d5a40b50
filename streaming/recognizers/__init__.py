"""Speech recognizers: PocketSphinx in worker processes, Whisper in threads, one Pipecat service."""
