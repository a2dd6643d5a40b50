"""Carriers' messages from strangers: nothing but the documented error comes of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.carriers import PLIVO, Exotel, Genesys, Phone, Plivo, Telnyx, Vonage
from ringtrue.telephony.carriers import wires
from ringtrue.telephony.carriers.signatures import Nonces
from ringtrue.telephony.carriers.wires import Begun, Receive
from ringtrue.telephony.media_streams.wire import Message, StreamError

BEGIN: dict[type[Phone], Callable[[Receive], Awaitable[Begun]]] = {
    Telnyx: lambda receive: wires.begin_telnyx(receive, api_key=None),
    Plivo: lambda receive: wires.begin_plivo(receive, auth_id=PLIVO[0], auth_token=PLIVO[1]),
    Exotel: lambda receive: wires.begin_exotel(receive, rate=8000),
    Vonage: lambda receive: wires.begin_vonage(receive, rate=16000),
    Genesys: wires.begin_genesys,
}
KINDS = sorted(BEGIN, key=lambda kind: kind.name)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


async def begun(kind: type[Phone], *messages: Message) -> Begun:
    given_ = iter(messages)

    async def receive() -> Message:
        try:
            return next(given_)
        except StopIteration:
            raise StreamError("no more") from None

    return await BEGIN[kind](receive)


def changed(text: str, path: list[str], value: Any) -> str:
    """A message with one of its values replaced."""
    content = json.loads(text)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(content)


def paths(content: Any) -> list[list[str]]:
    if not isinstance(content, dict):
        return []
    return [[key, *rest] for key in content for rest in [[], *paths(content[key])]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=60)
@given(data=st.data())
def test_a_changed_message_is_read_or_refused(kind: type[Phone], data: st.DataObject) -> None:
    phone = kind()
    first = phone.start()
    said = [phone.key("5"), phone.audio(bytes(320)), phone.end() or phone.key("1"), *first]
    chosen = data.draw(st.sampled_from([m for m in said if isinstance(m, str)]))
    path = data.draw(st.sampled_from(paths(json.loads(chosen))))
    message = changed(chosen, path, data.draw(JSON))

    async def go() -> None:
        with contextlib.suppress(StreamError):
            await begun(kind, *first[:-1], message)
        stream = await begun(kind, *first)
        await stream.wire.begin()
        with contextlib.suppress(StreamError):
            await stream.wire.receive(message)

    asyncio.run(go())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=40)
@given(message=st.text(max_size=200) | st.binary(max_size=200) | JSON.map(json.dumps))
def test_nonsense_is_read_or_refused(kind: type[Phone], message: Message) -> None:
    async def go() -> None:
        stream = await begun(kind, *kind().start())
        await stream.wire.begin()
        with contextlib.suppress(StreamError):
            await stream.wire.receive(message)

    asyncio.run(go())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_no_message_is_longer_than_a_second(kind: type[Phone]) -> None:
    phone = kind()
    stream = await begun(kind, *phone.start())
    await stream.wire.begin()
    for message in (phone.audio(bytes(5 * phone.rate)), b"\0" * (2 * phone.rate + 2)):
        with pytest.raises(StreamError, match=r"second|allowed: (65536|text)"):
            await stream.wire.receive(message)


async def test_marks_wait_for_the_audio_before_them() -> None:
    stream = await begun(Exotel, *Exotel().start())
    wire = stream.wire
    await wire.begin()
    for _ in range(5):
        assert await wire.audio(bytes(320)) == ()
    assert await wire.mark("800") == ()
    for _ in range(4):
        assert await wire.audio(bytes(320)) == ()
    audio, mark = await wire.audio(bytes(320))
    assert json.loads(audio)["event"] == "media"
    assert json.loads(mark)["mark"] == {"name": "800"}
    (alone,) = await wire.mark("1600")
    assert json.loads(alone)["mark"] == {"name": "1600"}
    await wire.audio(bytes(320))
    await wire.mark("1760")
    (clear,) = await wire.clear()
    assert json.loads(clear)["event"] == "clear"
    for _ in range(9):
        assert await wire.audio(bytes(320)) == ()
    assert len(await wire.audio(bytes(320))) == 1  # what was gathered before was dropped


def test_nonces_are_fresh_once_and_forgotten_in_time() -> None:
    nonces = Nonces(10.0)
    assert nonces.fresh("a", 0.0)
    assert not nonces.fresh("a", 9.0)
    assert nonces.fresh("b", 9.0)
    assert nonces.fresh("a", 11.0)
    assert not nonces.fresh("b", 11.0)
