"""SRTP and SRTCP for one stream (RFC 3711, RFC 7714), by libsrtp."""

from __future__ import annotations

from typing import Final

from pylibsrtp import Error, Policy, Session

from ringtrue.telephony.sdes import CryptoSuite, SrtpKeys

OVERLAP: Final = 2.0
"""Seconds after a change of the far end's key in which packets under the old one are taken."""

WINDOW: Final = 1024
"""Packets the replay check looks back on: more than any jitter buffer does."""

_PROFILES: Final[dict[str, int]] = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


def _session(suite: CryptoSuite, key: bytes, ssrc_type: int) -> Session:
    policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=_PROFILES[suite.name])
    policy.window_size = WINDOW
    return Session(policy)


class SrtpContext:
    """Both directions of one call's protection. ``now`` is seconds on a monotonic clock."""

    def __init__(self, keys: SrtpKeys) -> None:
        """Begin with ``keys``; their packet counters are new."""
        self._keys = keys
        self._out = _session(keys.suite, keys.send, Policy.SSRC_ANY_OUTBOUND)
        self._in = _session(keys.suite, keys.receive, Policy.SSRC_ANY_INBOUND)
        self._old: Session | None = None
        self._old_until = 0.0
        self.failures = 0
        """Packets that could not be authenticated, replays included."""

    def rekey(self, keys: SrtpKeys, now: float) -> None:
        """Follow a later agreement; a direction whose key stays goes on unbroken."""
        same = keys.suite == self._keys.suite
        if not (same and keys.send == self._keys.send):
            self._out = _session(keys.suite, keys.send, Policy.SSRC_ANY_OUTBOUND)
        if not (same and keys.receive == self._keys.receive):
            self._old, self._old_until = self._in, now + OVERLAP
            self._in = _session(keys.suite, keys.receive, Policy.SSRC_ANY_INBOUND)
        self._keys = keys

    def protect(self, packet: bytes) -> bytes | None:
        """An RTP packet as it may be sent; None where libsrtp refuses it."""
        try:
            protected: bytes = self._out.protect(packet)
        except (Error, ValueError):
            return None
        return protected

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """A compound RTCP packet as it may be sent; None where libsrtp refuses it."""
        try:
            protected: bytes = self._out.protect_rtcp(packet)
        except (Error, ValueError):
            return None
        return protected

    def unprotect(self, data: bytes, now: float) -> bytes | None:
        """The RTP packet in ``data``; None where it isn't authentic, or was here before."""
        return self._unprotected(data, now, rtcp=False)

    def unprotect_rtcp(self, data: bytes, now: float) -> bytes | None:
        """The RTCP packet in ``data``; None as :meth:`unprotect`."""
        return self._unprotected(data, now, rtcp=True)

    def _unprotected(self, data: bytes, now: float, *, rtcp: bool) -> bytes | None:
        if self._old is not None and now > self._old_until:
            self._old = None
        for session in (self._in, self._old):
            if session is None:
                continue
            try:
                plain: bytes = (session.unprotect_rtcp if rtcp else session.unprotect)(data)
            except (Error, ValueError):
                continue
            return plain
        self.failures += 1
        return None
