"""Growing a Merkle tree (RFC 6962 §2.1) and proving what is in it.

A tree is grown by its *frontier*: the roots of the perfect subtrees it is made of, largest first,
as many as its size has one bits. What a frontier covers can be deleted, and entries behind it
still be proven.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ringtrue.agent.audit.published import EMPTY_ROOT, node_hash

HASH_BYTES: Final = 32


class Frontier:
    """A tree of :attr:`size` leaves, as far as growing it needs."""

    __slots__ = ("_nodes", "size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        """``nodes`` are 32 bytes each. Raises ValueError where they don't fit ``size``."""
        if size < 0 or len(nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} perfect subtrees")
        if any(len(node) != HASH_BYTES for node in nodes):
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        self.size = size
        self._nodes = list(nodes)

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """Roots of the perfect subtrees, largest first."""
        return tuple(self._nodes)

    def copy(self) -> Frontier:
        """Another one, to be grown by itself."""
        return Frontier(self.size, self._nodes)

    def add(self, leaf: bytes) -> None:
        """Append a leaf, given by its hash."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self._nodes.pop(), node)
            size >>= 1
        self._nodes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root."""
        if not self._nodes:
            return EMPTY_ROOT
        root = self._nodes[-1]
        for node in reversed(self._nodes[:-1]):
            root = node_hash(node, root)
        return root

    def ranges(self) -> list[tuple[int, int]]:
        """What each of :attr:`nodes` covers: first leaf, and one past the last."""
        found, start = [], 0
        for bit in reversed(range(self.size.bit_length())):
            if self.size >> bit & 1:
                found.append((start, start + (1 << bit)))
                start += 1 << bit
        return found


class Tree:
    """A tree whose leaves are at hand from some frontier on: makes proofs."""

    def __init__(self, start: Frontier | None = None, leaves: Sequence[bytes] = ()) -> None:
        """``leaves``: hashes of the leaves behind ``start``, in order."""
        start = start or Frontier()
        self._start = start.size
        self._leaves = list(leaves)
        self._known = dict(zip(start.ranges(), start.nodes, strict=True))

    @property
    def size(self) -> int:
        """Leaves, those deleted included."""
        return self._start + len(self._leaves)

    def add(self, leaf: bytes) -> None:
        """Append a leaf, given by its hash."""
        self._leaves.append(leaf)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves (default: of all)."""
        size = self.size if size is None else size
        return self._node(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """RFC 9162 §2.1.3.1: that leaf ``index`` is among the first ``size``.

        Raises ValueError for a leaf that isn't, or is no longer at hand.
        """
        size = self.size if size is None else size
        if not self._start <= index < size <= self.size:
            raise ValueError(f"leaf {index} is not among {self._start} to {size - 1}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._node(middle, high))
                high = middle
            else:
                path.append(self._node(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, first: int, size: int | None = None) -> list[bytes]:
        """RFC 9162 §2.1.4.1: that the first ``size`` leaves continue the first ``first``.

        Raises ValueError where ``first`` lies among what is no longer at hand.
        """
        size = self.size if size is None else size
        if not 0 <= first <= size <= self.size:
            raise ValueError(f"no consistency from {first} to {size} in a tree of {self.size}")
        if first in (0, size):
            return []
        return _consistency(first, size, self._node)

    def _node(self, low: int, high: int) -> bytes:
        if (low, high) in self._known:
            return self._known[low, high]
        if high - low == 1:
            if low < self._start:
                raise ValueError(f"leaf {low} is no longer at hand")
            return self._leaves[low - self._start]
        middle = low + _split(high - low)
        node = node_hash(self._node(low, middle), self._node(middle, high))
        if high - low == 2 * (middle - low):
            self._known[low, high] = node
        return node


class Stretch:
    """What was added to a tree since :attr:`start`, as far as proving that it continues it takes.

    Of ``n`` leaves at most ``2 * log2(n)`` hashes are kept: those of the largest perfect subtrees
    that lie behind ``start``.
    """

    __slots__ = ("_nodes", "size", "start")

    def __init__(self, start: Frontier, leaves: Sequence[bytes] = ()) -> None:
        """``leaves``: hashes of the leaves behind ``start``, in order."""
        self.start = start.copy()
        self.size = start.size
        """Leaves of the whole tree."""

        self._nodes: list[tuple[int, int, bytes]] = []
        for leaf in leaves:
            self.add(leaf)

    def __len__(self) -> int:
        """Leaves since the start."""
        return self.size - self.start.size

    def add(self, leaf: bytes) -> None:
        """Append a leaf, given by its hash."""
        low, high, node = self.size, self.size + 1, leaf
        while self._nodes:
            first, end, before = self._nodes[-1]
            width = high - low
            if end - first != width or first % (2 * width):
                break
            self._nodes.pop()
            low, node = first, node_hash(before, node)
        self._nodes.append((low, high, node))
        self.size = high

    def consistency(self) -> list[bytes]:
        """RFC 9162 §2.1.4.1: that the tree continues the one it was at the start."""
        if not self.start.size or not len(self):
            return []
        known = dict(zip(self.start.ranges(), self.start.nodes, strict=True))
        known.update(((low, high), node) for low, high, node in self._nodes)

        def node_of(low: int, high: int) -> bytes:
            if (low, high) in known:
                return known[low, high]
            middle = low + _split(high - low)
            return node_hash(node_of(low, middle), node_of(middle, high))

        return _consistency(self.start.size, self.size, node_of)


def _consistency(first: int, size: int, node: Callable[[int, int], bytes]) -> list[bytes]:
    """The proof's hashes; ``node`` gives the root over leaves from one number to before another."""
    path: list[bytes] = []
    low, high, whole = 0, size, True
    while first != high:
        middle = low + _split(high - low)
        if first <= middle:
            path.append(node(middle, high))
            high = middle
        else:
            path.append(node(low, middle))
            low, whole = middle, False
    if not whole:
        path.append(node(low, high))
    return path[::-1]


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1
