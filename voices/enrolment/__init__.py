"""Enrolment: from a challenge and two recordings to a voice with its consent, or to a refusal."""
