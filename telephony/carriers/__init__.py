"""Calls through Telnyx, Plivo, Exotel, Vonage and Genesys, over Pipecat's serializers."""
