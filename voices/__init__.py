"""Voices: synthesis engines, vocoders and (later) consent, enrolment, watermark."""
