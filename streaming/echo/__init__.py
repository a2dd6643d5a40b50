"""The agent hears itself over a leaky line: found, cancelled, and kept out of its ears."""
