"""Far ends that behave as the real ones do, for tests that need a peer."""
