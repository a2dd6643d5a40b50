"""Ports for servers: free for UDP and TCP, and not what the system hands out."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ringtrue.loadtest import ports
from ringtrue.loadtest.ports import NoFreePortError, free_port, free_span


def test_a_port_lies_where_the_system_hands_out_none() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(20):
        port = free_port()
        assert ports.FIRST <= port < lowest
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind((ports.HOST, port))


@pytest.mark.parametrize(
    ("kind", "offset"), [(socket.SOCK_DGRAM, 0), (socket.SOCK_DGRAM, 5), (socket.SOCK_STREAM, 0)]
)
def test_a_span_with_a_port_taken_is_not_given(
    kind: int, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, other = free_span(6), free_span(6)
    drawn = iter([taken, taken, other])
    monkeypatch.setattr(
        "ringtrue.loadtest.ports.secrets.randbelow", lambda _: (next(drawn) - ports.FIRST) // 2
    )
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind((ports.HOST, taken + offset))
        assert free_span(6) == other


def test_spans_begin_even_and_end_within_the_range() -> None:
    for _ in range(5):
        first = free_span(400)
        assert first % 2 == 0
        assert first + 399 <= ports.LAST


def test_no_span_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(
        "ringtrue.loadtest.ports.secrets.randbelow", lambda _: (port - ports.FIRST) // 2
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((ports.HOST, port))
        with pytest.raises(NoFreePortError, match="no 4 ports in a row are free between 10000"):
            free_span(4)
