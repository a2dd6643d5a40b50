"""SIP messages as text, for tests of what only passes them on."""

from __future__ import annotations

OURS = "127.0.0.1:5060"


def request(
    method: str = "INVITE",
    *,
    call_id: str = "c1",
    cseq: int = 1,
    from_tag: str = "theirs",
    to_tag: str = "",
    branch: str = "z9hG4bKb1",
    host: str = "192.0.2.1",
    lines: tuple[str, ...] = (),
) -> bytes:
    """A request of somebody at ``host`` to us."""
    to = f";tag={to_tag}" if to_tag else ""
    head = [
        f"{method} sip:agent@{OURS} SIP/2.0",
        f"Via: SIP/2.0/UDP {host};branch={branch};rport",
        "Max-Forwards: 70",
        f"From: <sip:them@{host}>;tag={from_tag}",
        f"To: <sip:agent@{OURS}>{to}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <sip:them@{host}>",
        *lines,
        "Content-Length: 0",
    ]
    return "\r\n".join([*head, "", ""]).encode()


def response(
    status: int,
    *,
    method: str = "INVITE",
    call_id: str = "c1",
    cseq: int = 1,
    from_tag: str = "theirs",
    to_tag: str = "ours",
    branch: str = "z9hG4bKb1",
    host: str = "192.0.2.1",
    lines: tuple[str, ...] = (),
) -> bytes:
    """A response to a request of somebody at ``host``."""
    head = [
        f"SIP/2.0 {status} Said",
        f"Via: SIP/2.0/UDP {host};branch={branch};rport=5060;received={host}",
        f"From: <sip:them@{host}>;tag={from_tag}",
        f"To: <sip:agent@{OURS}>;tag={to_tag}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <sip:agent@{OURS}>",
        *lines,
        "Content-Length: 0",
    ]
    return "\r\n".join([*head, "", ""]).encode()
