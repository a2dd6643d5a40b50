"""The time a turn may take, and what is done when it runs out."""
