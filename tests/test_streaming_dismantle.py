"""Breaking the cycles among the objects of a Pipecat graph."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameProcessor

from ringtrue.streaming.dismantle import take_apart


class Holder(FrameProcessor):
    """Keeps what it is given, in whatever kind of container."""

    def __init__(self, *kept: object) -> None:
        super().__init__()
        self.kept = kept


class Plain:
    """No part of a graph."""

    def __init__(self, other: object = None) -> None:
        self.other = other


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Nothing but reference counts frees anything."""
    gc.disable()
    yield
    gc.enable()


def test_neighbours_are_freed_at_once() -> None:
    ends = [Holder(), Holder()]
    pipeline = Pipeline([*ends])
    ends[1].kept = ({"handlers": [ends[0], pipeline]},)
    alive = [weakref.ref(one) for one in (*ends, pipeline)]
    del ends
    assert None not in [reference() for reference in alive]
    take_apart([pipeline])
    del pipeline
    assert [reference() for reference in alive] == [None, None, None]


def test_parts_are_found_in_every_kind_of_container() -> None:
    parts = [Holder() for _ in range(5)]
    root = Holder([parts[0]], (parts[1],), {parts[2]}, {"key": parts[3]}, {parts[4]: 1})
    take_apart([root])
    assert not vars(root)
    assert all(not vars(part) for part in parts[:4])
    assert vars(parts[4])  # a key is no value


def test_what_is_no_part_stays_whole() -> None:
    behind = Holder()
    plain = Plain(behind)
    root = Holder(plain, "text", b"bytes", 1.5, None)
    take_apart([root, plain])
    assert not vars(root)
    assert plain.other is behind
    assert vars(behind)


def test_a_part_may_be_met_again_and_again() -> None:
    root = Holder()
    root.kept = (root, [root], {"self": root})
    take_apart([root, root, [root]])
    assert not vars(root)
    take_apart([root])
    take_apart([])
