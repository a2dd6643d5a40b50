"""sipp as an independent peer, in both directions, over loopback, good and lossy."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from sip_media import MediaShelf

from ringtrue.loadtest.ports import free_port
from ringtrue.streaming.ports import EndReason
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite, SipCall
from ringtrue.telephony.sip.replaces import Replaces

SIPP = shutil.which("sipp")
SCENARIOS = Path(__file__).parent / "peers" / "sipp"
CALLS = 50

pytestmark = pytest.mark.skipif(SIPP is None, reason="sipp (Debian: sip-tester) is not installed")


async def sipp(*arguments: str, folder: Path) -> asyncio.subprocess.Process:
    """Start sipp in ``folder``; it ends by itself or after 30 s."""
    assert SIPP is not None
    return await asyncio.create_subprocess_exec(
        SIPP,
        *arguments,
        *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-timeout", "30", "-timeout_error"),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def succeeded(process: asyncio.subprocess.Process) -> None:
    """Wait for sipp and fail with its own words if it failed."""
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-3000:]


def retransmissions(figures: Path) -> int:
    """How many messages sipp sent again."""
    *_, last = csv.DictReader(figures.read_text().splitlines(), delimiter=";")
    return int(last["Retransmissions(C)"])


@pytest.mark.parametrize(
    ("scenario", "mode", "done"),
    [
        ("caller", "u1", ["answer", "update"]),
        ("caller", "t1", ["answer", "update"]),
        ("lossy", "u1", ["answer"]),
    ],
)
async def test_fifty_calls_at_once(
    scenario: str, mode: str, done: list[str], tmp_path: Path
) -> None:
    """Answered, held by re-INVITE, ended by BYE; or with a tenth of all messages lost."""
    shelf, reasons = MediaShelf(), Counter[EndReason]()
    at_once = most = 0

    async def answer(invite: ServerInvite) -> None:
        nonlocal at_once, most
        await invite.ring()
        call = await invite.answer(shelf)
        at_once += 1
        most = max(most, at_once)
        reasons[await call.ended()] += 1
        at_once -= 1

    async with SipEndpoint("127.0.0.1", 0, on_invite=answer) as server:
        process = await sipp(
            f"127.0.0.1:{server.port}",
            *("-sf", str(SCENARIOS / f"{scenario}.xml"), "-t", mode, "-p", str(free_port())),
            *("-m", str(CALLS), "-l", str(CALLS), "-r", "1000"),
            *("-trace_stat", "-stf", "figures.csv"),
            folder=tmp_path,
        )
        await succeeded(process)
        assert server.sizes()["calls"] == 0
    assert scenario != "lossy" or retransmissions(tmp_path / "figures.csv") > CALLS // 10
    assert reasons == {EndReason.CALLER_HUNG_UP: CALLS}
    assert most == CALLS or scenario == "lossy"
    assert [[what for what, _ in media.log] for media in shelf.made] == [done] * CALLS
    assert shelf.all_closed


async def test_a_caller_takes_the_place_of_another(tmp_path: Path) -> None:
    """RFC 3891: the conversation goes on with sipp, and the phone that began it gets BYE."""
    shelf, answered = MediaShelf(), asyncio.get_running_loop().create_future()

    async def answer(invite: ServerInvite) -> None:
        call = await invite.answer(shelf)
        answered.set_result(call)
        await call.ended()

    async with (
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as server,
        SipEndpoint("127.0.0.1", 0, on_invite=answer) as phone,
        asyncio.timeout(20),
    ):
        outgoing = await phone.call(f"sip:x@127.0.0.1:{server.port}", MediaShelf())
        first = await outgoing.answered()
        call: SipCall = await answered
        dialog = server._driver.ua.established(call._handle).dialog
        replaces = Replaces(dialog.call_id, dialog.local.tag or "", dialog.remote.tag or "")
        process = await sipp(
            f"127.0.0.1:{server.port}",
            *("-sf", str(SCENARIOS / "replacer.xml"), "-p", str(free_port()), "-m", "1"),
            *("-key", "replaces", str(replaces)),
            folder=tmp_path,
        )
        assert await first.ended() is EndReason.CALLER_HUNG_UP
        await succeeded(process)
        assert await call.ended() is EndReason.CALLER_HUNG_UP
    assert shelf.all_closed


async def test_callers_who_give_up(tmp_path: Path) -> None:
    gone = 0

    async def ring(invite: ServerInvite) -> None:
        nonlocal gone
        await invite.ring()
        await invite.cancelled
        gone += 1

    async with SipEndpoint("127.0.0.1", 0, on_invite=ring) as server:
        process = await sipp(
            f"127.0.0.1:{server.port}",
            *("-sf", str(SCENARIOS / "quitter.xml"), "-p", str(free_port())),
            *("-m", str(CALLS), "-l", str(CALLS), "-r", "100"),
            folder=tmp_path,
        )
        await succeeded(process)
    assert gone == CALLS


async def test_we_call_sipp(tmp_path: Path) -> None:
    """Its built-in callee: 180, 200, and 200 to our BYE."""

    async def refuse(invite: ServerInvite) -> None:
        await invite.reject(486)

    port = free_port()
    process = await sipp("-sn", "uas", "-p", str(port), "-m", "1", folder=tmp_path)
    try:
        async with SipEndpoint("127.0.0.1", 0, on_invite=refuse) as client:
            outgoing = await client.call(f"sip:service@127.0.0.1:{port}", shelf := MediaShelf())
            async with asyncio.timeout(20):
                assert await outgoing.ringing() == 180
                call = await outgoing.answered()
                await call.hangup()
            assert await call.ended() is EndReason.AGENT_HUNG_UP
            assert shelf.made[0].log[-1][1].startswith(b"v=0")
    finally:
        await succeeded(process)
