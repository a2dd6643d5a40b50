"""A cache of sealed voiceprints and engine states, and the bus that tells of revoked voices."""
