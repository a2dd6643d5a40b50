"""Calls through Twilio: the signed webhook, and Media Streams over a websocket."""
