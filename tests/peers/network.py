"""A machine of its own beside this one: a network namespace, joined to it by cables.

Needs root and ``ip``; tests that ask for one where it can't be made are skipped with the reason.
Addresses are of 198.18.0.0/15, which is kept free for such use (RFC 2544).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Machine:
    """A namespace. Each cable is a network of two: ours, and the machine's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._cables: list[str] = []

    def command(self, folder: Path, program: str) -> Path:
        """A file that runs ``program`` there."""
        path = folder / f"{Path(program).name}-elsewhere"
        path.write_text(f'#!/bin/sh\nexec ip netns exec {self.name} {program} "$@"\n')
        path.chmod(0o755)
        return path

    def plug(self, number: int) -> None:
        """Join it by one more cable, and have it send everything there."""
        ours, theirs = f"{self.name}o{number}", f"{self.name}t{number}"
        host, there = self.ours(number), self.address(number)
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self.name)
        self._cables.append(ours)
        _ip("addr", "add", f"{host}/24", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", self.name, "addr", "add", f"{there}/24", "dev", theirs)
        _ip("-n", self.name, "link", "set", theirs, "up")
        _ip("-n", self.name, "route", "replace", "default", "via", host)

    def ours(self, number: int) -> str:
        """This machine's address on that cable."""
        return f"{_net(number)}.1"

    def address(self, number: int) -> str:
        """The machine's own on that cable."""
        return f"{_net(number)}.2"

    def unplug(self, number: int) -> None:
        """Take the cable out, on its side, and its address there with it."""
        _ip("-n", self.name, "link", "set", f"{self.name}t{number}", "down")
        _ip("-n", self.name, "addr", "flush", "dev", f"{self.name}t{number}")

    def remove(self) -> None:
        """Take it away with its cables: what a closed connection left there would keep both, and
        the next machine's packets would go down the old cable.
        """
        for cable in self._cables:
            _ip("link", "del", cable)
        _ip("netns", "del", self.name)


@contextmanager
def machine() -> Iterator[Machine]:
    """One with its first cable, until the end of the block."""
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed (Debian package: iproute2)")
    name = f"rt{os.getpid()}"
    made = Machine(name)
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr.strip()}")
    try:
        try:
            made.plug(1)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no cable can be laid: {error.stderr.strip()}")
        _ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        made.remove()


def _net(number: int) -> str:
    return f"198.18.{100 + number}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
