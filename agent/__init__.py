"""Composes the rooms into a server: call lifecycle, dialogue, API, console and command line."""
