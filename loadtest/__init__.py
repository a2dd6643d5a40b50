"""Callers from outside: virtual callers, network emulation, measurement at the caller's ear."""
