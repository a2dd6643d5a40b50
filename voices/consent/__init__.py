"""Consent: the challenge a speaker reads, the signed record of it, and what it allows."""
