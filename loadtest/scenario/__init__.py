"""What callers do, over which network, and what they expect: read from YAML."""
