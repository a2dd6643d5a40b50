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

    async def receive(self) -> Request | Response:
        async with asyncio.timeout(5):
            return parse_message(await asyncio.get_running_loop().sock_recv(self._socket, 65536))

    async def final(self, method: str = "INVITE") -> Response:
        while True:
            message = await self.receive()
            if isinstance(message, Request) or message.provisional:
                continue
            if message.cseq_method == method:
                return message
