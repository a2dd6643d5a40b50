"""The torture messages of RFC 4475 and RFC 5118 at a real endpoint, each followed by a call."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sip_media import MediaShelf

from ringtrue.telephony.sip.core import Policy
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.message import Request, Response, parse_message
from ringtrue.telephony.sip.schedule import Timers

SHARED = Path(__file__).resolve().parents[2] / "shared"
QUICK = Policy(timers=Timers(t1=0.05, t2=0.2, t4=0.1))
SENT_BY = re.compile(
    rb"(?i)(\r\nv(?:ia)?\s*:\s*SIP\s*/\s*[\d.]+\s*/\s*\w+\s+)(\[[^\]]*\]|[^\s;:,]+)(:\d+)?"
)
USUAL = {
    "INVITE": {486, 481},
    "OPTIONS": {200},
    "REGISTER": {405},
    "MESSAGE": {405},
    "BYE": {481},
}
"""What this server answers to a sound request: the torture INVITEs are for a busy user."""


def cases(folder: str) -> list[Any]:
    """One parameter per message; one that skips where the folder is absent."""
    index = SHARED / folder / "index.json"
    if not index.is_file():
        reason = f"{folder} messages are not beside this checkout ({index.parent})"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id=folder)]
    entries = json.loads(index.read_text())["cases"]
    return [pytest.param({**e, "path": index.parent / e["file"]}, id=e["file"]) for e in entries]


class Bench:
    """An endpoint that answers calls to ``well`` and is busy for everybody else."""

    def __init__(self) -> None:
        self.shelf = MediaShelf()
        self.dialled: list[str] = []
        self.answered: asyncio.Queue[SipCall] = asyncio.Queue()
        self.server = SipEndpoint("127.0.0.1", 0, on_invite=self._on_invite, policy=QUICK)
        self.client = SipEndpoint("127.0.0.1", 0, on_invite=self._on_invite, policy=QUICK)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)

    async def _on_invite(self, invite: ServerInvite) -> None:
        self.dialled.append(invite.request_uri)
        if not invite.request_uri.startswith("sip:well@"):
            await invite.reject(486)
            return
        call = await invite.answer(self.shelf)
        await self.answered.put(call)
        await call.ended()

    async def send_datagram(self, data: bytes) -> None:
        """Send with our own sent-by in the top Via, so that the answer finds us."""
        port = self.socket.getsockname()[1]
        data, count = SENT_BY.subn(rb"\g<1>127.0.0.1:%d" % port, data, count=1)
        assert count == 1
        target = ("127.0.0.1", self.server.port)
        await asyncio.get_running_loop().sock_sendto(self.socket, data, target)

    async def datagram_answer(self) -> Response:
        """The final response to what was sent."""
        while True:
            async with asyncio.timeout(5):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
            message = parse_final(data)
            if message.status >= 200:
                return message

    async def stream_answer(self, data: bytes) -> Response:
        """Send on a fresh connection and read the final response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(data)
            while True:
                async with asyncio.timeout(5):
                    head = await reader.readuntil(b"\r\n\r\n")
                message = parse_final(head)
                if message.status >= 200:
                    return message
        finally:
            writer.close()
            await writer.wait_closed()

    def silent(self) -> bool:
        """Whether nothing is waiting to be read."""
        try:
            self.socket.recv(65536)
        except BlockingIOError:
            return True
        return False

    async def normal_call(self) -> None:
        """A call from here to there and back down."""
        outgoing = await self.client.call(f"sip:well@127.0.0.1:{self.server.port}", MediaShelf())
        async with asyncio.timeout(5):
            call = await outgoing.answered()
            other = await self.answered.get()
            await call.hangup()
            await other.ended()


def parse_final(data: bytes) -> Response:
    """Read a response; answers to broken requests may lack what those lacked."""
    try:
        message = parse_message(data)
    except Exception:
        match = re.match(rb"SIP/2\.0 (\d{3})", data)
        assert match, data
        return Response(status=int(match[1]))
    assert isinstance(message, Response)
    return message


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with made.server, made.client:
        yield made
    made.socket.close()
    assert made.shelf.all_closed


def allowed(case: dict[str, Any], data: bytes) -> set[int] | None:
    """Final statuses the message may get; None where it must get no answer at all."""
    if case.get("kind") == "response":
        return None
    method = data.lstrip().split(b" ", 1)[0].decode("utf-8", "replace")
    usual = USUAL.get(method, {405, 501})
    if case["verdict"] == "liberal":
        return usual | {400}
    if case["verdict"] == "valid":
        return set(case.get("statuses") or usual)
    statuses = set(case.get("statuses") or ())
    if not statuses:
        statuses = {400} if case["verdict"] == "reject" else usual | {400}
    return statuses | usual if case.get("liberal_accept_ok") else statuses


@pytest.mark.parametrize("case", [*cases("rfc4475"), *cases("rfc5118")])
async def test_torture(case: dict[str, Any], bench: Bench) -> None:
    data = case["path"].read_bytes()
    expected = allowed(case, data)
    stream = "/TCP" in case.get("top_via", "")
    if expected is None:
        target = ("127.0.0.1", bench.server.port)
        bench.socket.sendto(data, target)
        await bench.normal_call()
        assert bench.silent()
        assert len(bench.dialled) == 1
        return
    if stream:
        answer = await bench.stream_answer(data)
    else:
        await bench.send_datagram(data)
        answer = await bench.datagram_answer()
    assert answer.status in expected
    await bench.normal_call()
    check_details(case["file"], answer, bench, data)


def check_details(name: str, answer: Response, bench: Bench, data: bytes) -> None:
    """What the RFCs say about single messages beyond the status."""
    reached = [uri for uri in bench.dialled if not uri.startswith("sip:well@")]
    if answer.status not in (486,):
        assert reached == [], "a refused request must not reach the application"
    match name:
        case "dblreq.dat":
            assert reached == [], "octets past the message are no second message"
        case "bext01.dat":
            unsupported = answer.headers.get("unsupported") or ""
            assert unsupported == "nothingSupportsThis, nothingSupportsThisEither"
        case "esc01.dat":
            assert reached == ["sip:sips%3Auser%40example.com@example.net"]
        case "invut.dat":
            assert answer.headers.get("accept") == "application/sdp"
        case "sdp01.dat":
            assert (answer.headers.get("warning") or "").startswith("399 ")
        case "wsinv.dat":
            assert [answer.tokens("via")[n].split()[-1] for n in (1, 2)] == [
                "spindle.example.com",
                "192.168.255.111",
            ]
            assert answer.status == 481, "its To has a tag and no dialog has it"
        case "4.7_multi_ip_headers.dat":
            assert answer.status == 481
    if answer.status == 405:
        assert answer.headers.get("allow")
    sound = b"" if answer.call_id == "" else answer.call_id.encode()
    assert sound in data


async def test_negative_content_length_on_a_stream_closes_it(bench: Bench) -> None:
    """RFC 4475 §3.1.2.3: an error response, then the connection ends."""
    request = (
        b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\n"
        b"From: <sip:x@y>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: n\r\nCSeq: 1 OPTIONS\r\n"
        b"Content-Length: -999\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
    writer.write(request)
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"SIP/2.0 400 ")
    writer.close()
    await writer.wait_closed()
    await bench.normal_call()


def test_the_messages_are_what_their_index_says() -> None:
    """Guards the test above against an index that no longer fits."""
    index = SHARED / "rfc4475" / "index.json"
    if not index.is_file():
        pytest.skip("rfc4475 messages are not beside this checkout")
    for case in json.loads(index.read_text())["cases"]:
        assert len((index.parent / case["file"]).read_bytes()) == case["bytes"]
    assert isinstance(parse_message((index.parent / "wsinv.dat").read_bytes()), Request), (
        "the first message of the RFC is sound"
    )
