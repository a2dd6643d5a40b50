"""SIP: a sans-IO user agent (RFC 3261 + 6026) and its asyncio endpoint."""
