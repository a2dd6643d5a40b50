"""Keys: per-voice data keys, the master keys that wrap them, and the key that signs consents."""
