"""Stand-ins for what a load test must not wait for or pay for: a language model, a recognizer."""
