"""What every test gets: the event loop it asks for, and a watch for what it leaves behind.

Loops, by marker: none = plain asyncio, ``virtual_time`` = time that costs nothing,
``uvloop`` = the production loop; a test's own overrules its module's.

A test fails if it leaves tasks, threads, sockets or child processes behind. What a fixture of
wider scope made in its set-up is that fixture's to release. Where such a fixture starts threads
or processes later (a pool that grows on first use), its tests carry
``@pytest.mark.keeps("why")``, which lifts the check of threads and processes only.
"""

from __future__ import annotations

import os

# As the server does, before NumPy is loaded: where other processes keep the cores busy, products
# shared between threads wait for each other, and take twenty times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import gc
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import pytest_asyncio
import uvloop

from peers.postgres import Postgres, running_postgres
from peers.redis import RedisServer, running_redis
from store_links import Urls
from virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from ringtrue.streaming.graph import SharedModels

GRACE = 3.0
"""Real seconds granted to threads, sockets and processes that are already on their way out."""

PROCESS_WIDE_THREADS = ("tqdm", "TMonitor", "pytest_timeout", "pydevd", "loguru")
"""Threads that a library starts once per process and never ends."""

PROCESS_WIDE_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the hypothesis profile; keep away from the user's own voices."""
    data = tempfile.TemporaryDirectory(prefix="ringtrue-tests-")
    config.add_cleanup(data.cleanup)
    os.environ["XDG_DATA_HOME"] = data.name
    os.environ["XDG_STATE_HOME"] = str(Path(data.name, "state"))
    hypothesis.settings.register_profile(
        "project",
        deadline=None,  # the machine is shared; slowness is no finding
        derandomize=True,  # a run is the same everywhere
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("project")
    config.addinivalue_line("markers", "virtual_time: run on a loop whose sleeps cost nothing")
    config.addinivalue_line("markers", "uvloop: run on uvloop, as the server does")
    config.addinivalue_line("markers", "keeps(why): threads and processes may outlive the test")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """Choose the loop by the marker nearest to the test."""
    for marker in item.iter_markers():
        if marker.name == "virtual_time":
            return {"virtual": VirtualTimeLoop}
        if marker.name == "uvloop":
            return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@dataclass
class Held:
    """What this process holds at one moment."""

    threads: dict[threading.Thread, str] = field(default_factory=dict)
    sockets: set[str] = field(default_factory=set)
    children: dict[int, str] = field(default_factory=dict)

    def beyond(self, *earlier: Held) -> Held:
        """What is held now and was not held in any of ``earlier``."""
        rest = Held(dict(self.threads), set(self.sockets), dict(self.children))
        for held in earlier:
            rest.threads = {k: v for k, v in rest.threads.items() if k not in held.threads}
            rest.sockets -= held.sockets
            rest.children = {k: v for k, v in rest.children.items() if k not in held.children}
        return rest

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self.threads or self.sockets or self.children)

    def __str__(self) -> str:
        """For the failure message."""
        parts = []
        if self.threads:
            parts.append(f"threads: {', '.join(sorted(self.threads.values()))}")
        if self.sockets:
            parts.append(f"sockets: {', '.join(sorted(self.sockets))}")
        if self.children:
            parts.append(f"processes: {', '.join(f'{p} {c}' for p, c in self.children.items())}")
        return "; ".join(parts)


def held_now() -> Held:
    """Read threads, sockets and children of this process (sockets and children: Linux)."""
    held = Held()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not any(
            known in thread.name for known in PROCESS_WIDE_THREADS
        ):
            held.threads[thread] = thread.name
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("socket:"):
            held.sockets.add(target)
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:
            continue
        for pid in pids:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if not any(known in command for known in PROCESS_WIDE_CHILDREN):
                held.children[int(pid)] = command.strip()[:120] or "(zombie)"
    return held


_WIDER: list[Held] = []
"""What fixtures of wider scope than one test made while they were set up."""

_BEFORE = pytest.StashKey[Held]()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Iterator[None]:
    """Note what a wider fixture holds, so that its users aren't blamed for it."""
    if fixturedef.scope == "function":
        return (yield)
    before = held_now()
    result = yield
    _WIDER.append(held_now().beyond(before))
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Note what is held before the test."""
    item.stash[_BEFORE] = held_now()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail the test for what it left, once its fixtures are torn down."""
    result = yield
    before = item.stash.get(_BEFORE, None)
    if before is None:
        return result
    keeps = item.get_closest_marker("keeps") is not None

    def left() -> Held:
        rest = held_now().beyond(before, *_WIDER)
        if keeps:
            rest.threads, rest.children = {}, {}
        return rest

    rest = left()
    deadline = time.monotonic() + GRACE
    if rest:
        gc.collect()
    while rest and time.monotonic() < deadline:
        time.sleep(0.02)
        rest = left()
    if rest:
        pytest.fail(f"left behind: {rest}", pytrace=False)
    return result


@pytest_asyncio.fixture
async def _no_leaked_tasks() -> AsyncIterator[None]:
    """Fail if tasks outlive the test and its fixtures; a few loop turns are granted."""
    before = asyncio.all_tasks()
    yield
    current = asyncio.current_task()

    def left() -> set[asyncio.Task[Any]]:
        return {t for t in asyncio.all_tasks() - before if t is not current and not t.done()}

    for _ in range(20):
        if not left():
            return
        await asyncio.sleep(0)
    names = ", ".join(sorted(f"{t.get_name()} ({t.get_coro()!r})" for t in left()))
    if names:
        pytest.fail(f"tasks left behind: {names}", pytrace=False)


@pytest.fixture(autouse=True)
def _leak_guard(request: pytest.FixtureRequest) -> None:
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_no_leaked_tasks")


@pytest.fixture
def settled() -> Iterator[None]:
    """The collector as a server's process has it: nothing that was loaded before is visited.

    A full collection of all that earlier tests imported holds the loop for a quarter of a second,
    which a caller hears as a gap.
    """
    from ringtrue.agent.server import settle_memory  # seconds to import: for who wants it only

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    settle_memory()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def models() -> Iterator[SharedModels]:
    """What all calls of a process share, without the model of turns' ends."""
    from ringtrue.streaming.graph import SharedModels  # seconds to import: for who wants it only

    made = SharedModels(smart_turn=False)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; its users are skipped where there is none."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server of the test's own, to be killed and hung at will; skipped without one."""
    with running_redis() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_urls(request: pytest.FixtureRequest, tmp_path: Path) -> Urls:
    """Empty databases of each kind for a voice store."""
    if request.param == "sqlite":
        return Urls(f"sqlite:///{tmp_path}/db/voices.db", f"sqlite:///{tmp_path}/db/keys.db")
    server = request.getfixturevalue("postgres")
    return Urls(server.new_database(), server.new_database())


@pytest.fixture
def virtual_loop() -> Iterator[VirtualTimeLoop]:
    """A virtual-time loop to drive by hand from a synchronous test."""
    loop = VirtualTimeLoop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
