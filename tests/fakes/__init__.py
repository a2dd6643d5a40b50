"""Local servers that speak a hosted service's wire format, and graphs to drive services in."""
