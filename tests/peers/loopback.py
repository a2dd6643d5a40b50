"""Addresses on this machine for peers that refuse 127.0.0.1 itself."""

from __future__ import annotations

import subprocess

import pytest

ADDRESS = "127.0.0.2"


def ensure_ice_address() -> None:
    """Have an address ICE will use: aioice skips only the literal 127.0.0.1.

    Skips the test where there is none and none can be added (no root).
    """
    if _addresses():
        return
    added = subprocess.run(
        ["ip", "addr", "add", f"{ADDRESS}/8", "dev", "lo"],
        capture_output=True,
        text=True,
        check=False,
    )
    if added.returncode and "File exists" not in added.stderr:
        pytest.skip(f"ICE needs {ADDRESS} on lo, and it can't be added: {added.stderr.strip()}")


def ice_address() -> str:
    """The address that ICE will use, made where needed; skips as :func:`ensure_ice_address`."""
    ensure_ice_address()
    return _addresses()[0]


def _addresses() -> list[str]:
    """This machine's IPv4 addresses but the one that ICE leaves out."""
    shown = subprocess.run(["ip", "-br", "addr"], capture_output=True, text=True, check=False)
    addresses = [word.partition("/")[0] for word in shown.stdout.split() if "/" in word]
    return [address for address in addresses if "." in address and address != "127.0.0.1"]
