"""RTP: packets, reports, digits, jitter buffer, loss concealment (RFC 3550, 3551, 4733)."""
