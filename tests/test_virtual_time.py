"""The test loop itself, and the guards every test runs under."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtual_time import START, VirtualDeadlockError, VirtualTimeLoop, run_virtual

pytest_plugins = ["pytester"]


@pytest.mark.virtual_time
async def test_sleep_moves_the_clock_exactly_and_costs_nothing() -> None:
    loop = asyncio.get_running_loop()
    real = time.monotonic()
    await asyncio.sleep(36_000)
    assert loop.time() == START + 36_000
    assert time.monotonic() - real < 60


@pytest.mark.virtual_time
async def test_timers_fire_in_order_on_their_exact_times() -> None:
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    for step in (0.06, 0.02, 0.04):
        loop.call_at(START + step, lambda: seen.append(loop.time()))
    await asyncio.sleep(1)
    assert seen == [START + 0.02, START + 0.04, START + 0.06]


@pytest.mark.virtual_time
async def test_timeouts_use_virtual_time() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 500)
    assert asyncio.get_running_loop().time() == START + 500


@pytest.mark.virtual_time
async def test_time_stands_still_while_an_executor_works() -> None:
    loop = asyncio.get_running_loop()
    released = threading.Event()
    job = loop.run_in_executor(None, released.wait)
    threading.Timer(0.05, released.set).start()
    async with asyncio.timeout(0.001):
        assert await job
    assert loop.time() == START


@pytest.mark.virtual_time
async def test_loopback_datagrams_arrive_before_time_moves() -> None:
    loop = asyncio.get_running_loop()
    arrived: list[tuple[float, bytes]] = []

    class Sink(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            arrived.append((loop.time(), data))

    transport, _ = await loop.create_datagram_endpoint(Sink, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", transport.get_extra_info("sockname"))
        await asyncio.sleep(10)
    transport.close()
    await asyncio.sleep(0)
    assert arrived == [(START, b"x")]


def test_a_deadlock_raises_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtual_time.DEADLOCK_SECONDS", 0.05)
    loop = VirtualTimeLoop()
    stuck = loop.create_task(asyncio.Event().wait(), name="stuck")
    with pytest.raises(VirtualDeadlockError, match="stuck"):
        loop.run_until_complete(stuck)
    stuck.cancel()
    loop.run_until_complete(asyncio.gather(stuck, return_exceptions=True))
    loop.close()


@given(delays=st.lists(st.floats(0, 1e4), max_size=5))
@settings(max_examples=10, deadline=None)
def test_run_virtual_serves_synchronous_tests(delays: list[float]) -> None:
    async def main() -> float:
        for delay in delays:
            await asyncio.sleep(delay)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(START + sum(delays))


@given(delay=st.floats(0, 1e4))
@settings(max_examples=10, deadline=None)
@pytest.mark.virtual_time
async def test_hypothesis_works_on_the_virtual_loop(delay: float) -> None:
    before = asyncio.get_running_loop().time()
    await asyncio.sleep(delay)
    assert asyncio.get_running_loop().time() == pytest.approx(before + delay)


@pytest.mark.uvloop
async def test_uvloop_by_marker() -> None:
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("asyncio.get_running_loop().kept = asyncio.create_task(asyncio.sleep(60))", "tasks left"),
        ("KEPT.append(socket.socket())", "left behind: sockets"),
        (
            "t = threading.Thread(target=KEPT_EVENT.wait, daemon=True, name='stray'); t.start()",
            "left behind: threads: stray",
        ),
        ("KEPT.append(subprocess.Popen(['sleep', '20']))", "left behind: processes"),
        ("pass", None),
    ],
)
def test_leaks_fail_the_test(
    pytester: pytest.Pytester,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    complaint: str | None,
) -> None:
    tests = pytestconfig.rootpath / "tests"
    conftest = (tests / "conftest.py").read_text().replace("GRACE = 3.0", "GRACE = 0.2")
    pytester.makeconftest(conftest)
    pytester.makepyfile(
        f"""
        import asyncio, atexit, socket, subprocess, threading
        KEPT = []
        KEPT_EVENT = threading.Event()
        @atexit.register
        def release():
            KEPT_EVENT.set()
            for kept in KEPT:
                kept.close() if isinstance(kept, socket.socket) else (kept.kill(), kept.wait())
        async def test_leaves_something():
            {body}
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(tests))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    if complaint is None:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines([f"*{complaint}*"])
