"""A hand-written SIP peer on a UDP socket."""

from __future__ import annotations

import asyncio
import socket

from ringtrue.telephony.sip.message import Request, Response, parse_message


class Peer:
    """A UDP socket that speaks whatever a test writes."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def send(
        self, method: str, *extra: str, tag: str = "", cseq: int = 1, body: str = ""
    ) -> None:
        to = f";tag={tag}" if tag else ""
        lines = [
            f"{method} sip:agent@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bKp{cseq}",
            "From: <sip:peer@127.0.0.1>;tag=p",
            f"To: <sip:agent@127.0.0.1>{to}",
            "Call-ID: peer-call",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:peer@127.0.0.1:{self.port}>",
            *extra,
            f"Content-Length: {len(body)}",
            "",
            body,
        ]
        await self.send_raw("\r\n".join(lines).encode())

    async def send_raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendto(self._socket, data, self._to)

    async def respond(
        self, request: Request, status: int, *lines: str, body: bytes = b"", tag: str = "x"
    ) -> None:
        """Answer ``request``; ``lines`` are further header lines."""
        to = request.headers.get("to") or ""
        head = [f"SIP/2.0 {status} Said"]
        head += [f"Via: {via}" for via in request.headers.get_all("via")]
        head += [f"From: {request.headers.get('from')}"]
        head += [f"To: {to}" if "tag=" in to else f"To: {to};tag={tag}"]
        head += [f"Call-ID: {request.call_id}", f"CSeq: {request.headers.get('cseq')}"]
        head += [f"Contact: <sip:{tag}@127.0.0.1:{self.port}>", *lines]
        head += ["Content-Type: application/sdp"] if body else []
        head += [f"Content-Length: {len(body)}", "", ""]
        await self.send_raw("\r\n".join(head).encode() + body)

    async def update(self, invite: Request, body: bytes, tag: str = "x") -> None:
        """Offer another session by UPDATE, inside the dialog that ``invite`` made with ``tag``."""
        assert invite.contact is not None
        head = [
            f"UPDATE {invite.contact.uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bKupdate",
            f"From: {invite.headers.get('to')};tag={tag}",
            f"To: {invite.headers.get('from')}",
            f"Call-ID: {invite.call_id}",
            "CSeq: 1 UPDATE",
            f"Contact: <sip:{tag}@127.0.0.1:{self.port}>",
            "Content-Type: application/sdp",
            f"Content-Length: {len(body)}",
        ]
        await self.send_raw("\r\n".join([*head, "", ""]).encode() + body)

    async def heard(self, method: str, within: float = 5.0) -> Request:
        """The next request of ``method``; what comes before it is let go."""
        while True:
            message = await self.receive(within)
            if isinstance(message, Request) and message.method == method:
                return message

    async def receive(self, within: float = 5.0) -> Request | Response:
        async with asyncio.timeout(within):
            return parse_message(await asyncio.get_running_loop().sock_recv(self._socket, 65536))

    async def final(self, method: str = "INVITE") -> Response:
        while True:
            message = await self.receive()
            if isinstance(message, Request) or message.provisional:
                continue
            if message.cseq_method == method:
                return message
