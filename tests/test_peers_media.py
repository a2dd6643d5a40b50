"""baresip hears us and we it: SRTP offered, required and refused, Opus, IPv6, digits."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from rtp_link import Speaker, voice

from peers.baresip import Baresip, baresip, needs_baresip
from peers.compare import read_wav, write_wav
from ringtrue.streaming.ports import LegStats
from ringtrue.streaming.tones import dtmf_frames
from ringtrue.telephony.rtp.ports import PortPool
from ringtrue.telephony.rtp.session import MediaOptions, session_factory
from ringtrue.telephony.sdes import SUITES, Security, SrtpMode
from ringtrue.telephony.sip.driver import TlsListener
from ringtrue.telephony.sip.endpoint import SipEndpoint
from ringtrue.telephony.sip.handles import ServerInvite
from ringtrue.telephony.sip.media import MediaError
from ringtrue.telephony.sip.tls import server_context

SECONDS = 2.0
OUR_DIGITS = "5#"
SOURCE_RATES = {"PCMU": 8000, "G722": 16000, "opus": 48000}


@dataclass
class Answered:
    """What became of a call to us."""

    stats: LegStats | None = None
    codec: str = ""
    heard: bytes = b""
    rate: int = 8000
    digits: str = ""
    refusals: list[int] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)


async def called(
    folder: Path,
    codec: str,
    options: MediaOptions,
    *,
    encryption: str | None = None,
    host: str = "127.0.0.1",
    dial: str = "",
    hold: bool = False,
    authority: Authority | None = None,
) -> tuple[Answered, Baresip]:
    """baresip calls an endpoint that speaks ``voice`` and keeps what it hears."""
    needs_baresip()
    outcome, over = Answered(), asyncio.Event()
    pool = PortPool(host)

    async def answer(invite: ServerInvite) -> None:
        try:
            call = await invite.answer(session_factory(pool, options=options))
        except MediaError as error:
            outcome.refusals.append(error.status)
            over.set()
            return
        leg = call.leg
        speaker, said = Speaker(leg.rate, call.id), voice(6, leg.rate)
        tones = dtmf_frames(OUR_DIGITS, leg.rate)
        loop = asyncio.get_running_loop()
        due, size = loop.time(), leg.rate // 50
        for n in range(int(SECONDS * 50)):
            due += 0.02
            await asyncio.sleep(max(0.0, due - loop.time()))
            step = leg.pull(due)
            outcome.heard += step.pcm
            outcome.digits += "".join(step.digits)
            pcm, key = said[n * size : (n + 1) * size].tobytes(), None
            if 5 <= n < 5 + len(tones):
                pcm, key = tones[n - 5]
            leg.send(speaker.frame(pcm, due, key), due)
            if n == 30:
                for key in dial:
                    await asyncio.to_thread(phone.command, "sndcode", key)
            if hold and n in (60, 75):
                outcome.held.append(leg.held)
                await asyncio.to_thread(phone.command, "hold" if n == 60 else "resume")
                due = loop.time()
        outcome.held.append(leg.held)
        outcome.stats, outcome.codec, outcome.rate = leg.stats, leg.codec, leg.rate  # type: ignore[attr-defined]
        await call.hangup()
        over.set()

    rate = SOURCE_RATES[codec]
    source = folder / "source.wav"
    write_wav(source, voice(SECONDS + 4, rate), rate)
    tls = None
    if authority is not None:
        pair = authority.sign("agent", host)
        tls = TlsListener(server_context(pair.certificate, pair.key), 0)
    plain = tls is None
    async with SipEndpoint(host, 0, on_invite=answer, udp=plain, tcp=plain, tls=tls) as endpoint:
        literal = f"[{host}]" if ":" in host else host
        port = endpoint.port if plain else endpoint.tls_port
        target = f"sip:agent@{literal}:{port}" + ("" if plain else ";transport=tls")
        context = baresip(
            folder / "phone",
            source,
            codec,
            target,
            seconds=20,
            encryption=encryption,
            host=host,
            transport="udp" if plain else "tls",
            trust=authority.path if authority is not None else None,
        )
        phone = await asyncio.to_thread(context.__enter__)
        try:
            async with asyncio.timeout(20):
                await over.wait()
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)
    return outcome, phone


def heard_well(outcome: Answered, phone: Baresip) -> None:
    """Both sides heard speech and we were heard dialling; nothing was lost or refused."""
    stats = outcome.stats
    assert stats is not None, phone.log
    assert stats.packets_received > 60
    assert stats.packets_lost == 0
    assert stats.packets_refused <= 2
    ours = np.frombuffer(outcome.heard, "<i2").astype(float)
    assert ours[len(ours) // 2 :].std() > 300
    assert re.findall(r"received event: '(.)' \(end=1\)", phone.log) == [*OUR_DIGITS]
    theirs, _ = read_wav(phone.recording())
    assert theirs[len(theirs) // 2 :].std() > 0.01


@pytest.mark.parametrize(
    ("codec", "encryption", "mode"),
    [("PCMU", "srtp-mand", SrtpMode.REQUIRE), ("opus", "srtp", SrtpMode.OFFER)],
)
async def test_both_sides_hear_each_other_encrypted(
    tmp_path: Path, codec: str, encryption: str, mode: SrtpMode
) -> None:
    """One over TLS, and held; the other's telephone events count in another clock than Opus."""
    secure = codec == "PCMU"
    options = MediaOptions(security=Security(mode, SUITES))
    outcome, phone = await called(
        tmp_path,
        codec,
        options,
        encryption=encryption,
        dial="7#",
        hold=secure,
        authority=Authority(tmp_path / "ca") if secure else None,
    )
    heard_well(outcome, phone)
    assert outcome.codec == codec
    assert outcome.rate == (8000 if codec == "PCMU" else 16000)
    assert outcome.digits == "7#"
    assert outcome.held == ([False, True, False] if secure else [False])
    assert outcome.stats is not None
    # baresip opens its NAT binding with one plain RTCP packet
    assert outcome.stats.extra["srtp_failures"] <= 1


async def test_a_call_that_must_be_encrypted_and_may_not_be_is_refused(tmp_path: Path) -> None:
    outcome, phone = await called(tmp_path, "PCMU", MediaOptions(), encryption="srtp-mand")
    assert outcome.refusals == [488]
    assert outcome.stats is None
    assert "488" in phone.log


async def test_over_ipv6(tmp_path: Path) -> None:
    outcome, phone = await called(tmp_path, "PCMU", MediaOptions(), host="::1")
    heard_well(outcome, phone)
