"""Bytes on a wire to 20 ms PCM frames and back: SIP/RTP, WebRTC, Twilio Media Streams."""
