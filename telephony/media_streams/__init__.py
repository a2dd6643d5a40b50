"""Calls that a carrier brings over a websocket: what is alike in all of them."""
