"""The Merkle tree against RFC 6962's definition, known roots, and its own proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtrue.agent.audit.merkle import Frontier, Stretch, Tree
from ringtrue.agent.audit.published import (
    EMPTY_ROOT,
    VerificationError,
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
)

# The reference leaves of Certificate Transparency's own tests, and the roots of their trees.
LEAVES = [
    bytes.fromhex(data)
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def defined_root(hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(defined_root(hashes[:split]), defined_root(hashes[split:]))


def test_known_roots() -> None:
    frontier, tree = Frontier(), Tree()
    assert frontier.root() == tree.root() == EMPTY_ROOT
    for data, root in zip(LEAVES, ROOTS, strict=True):
        frontier.add(leaf_hash(data))
        tree.add(leaf_hash(data))
        assert frontier.root().hex() == tree.root().hex() == root


@given(st.integers(0, 70), st.integers(0, 70), st.data())
def test_proofs_hold_whatever_of_the_beginning_is_gone(
    kept_from: int, more: int, data: st.DataObject
) -> None:
    hashes = leaves(kept_from + more)
    start = Frontier()
    for leaf in hashes[:kept_from]:
        start.add(leaf)
    tree = Tree(start, hashes[kept_from:])
    assert tree.root() == defined_root(hashes)
    if not more:
        return
    size = data.draw(st.integers(kept_from + 1, len(hashes)))
    index = data.draw(st.integers(kept_from, size - 1))
    root = defined_root(hashes[:size])
    check_inclusion(hashes[index], index, size, tree.inclusion(index, size), root)
    first = data.draw(st.integers(kept_from, size))
    proof = tree.consistency(first, size)
    check_consistency(first, defined_root(hashes[:first]), size, root, proof)


@given(st.integers(2, 40), st.data())
def test_no_other_leaf_place_or_path_is_taken(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    tree = Tree(leaves=hashes)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda number: number != index))
    path, root = tree.inclusion(index), tree.root()
    with pytest.raises(VerificationError):
        check_inclusion(hashes[other], index, size, path, root)
    with pytest.raises(VerificationError):
        check_inclusion(hashes[index], other, size, path, root)
    with pytest.raises(VerificationError):
        check_inclusion(hashes[index], index, size, path[:-1], root)
    with pytest.raises(VerificationError):
        check_inclusion(hashes[index], index, size, [*path, root], root)
    with pytest.raises(VerificationError):
        check_inclusion(hashes[index], size, size, path, root)
    step = data.draw(st.integers(0, len(path) - 1))
    wrong = [*path[:step], leaf_hash(path[step]), *path[step + 1 :]]
    with pytest.raises(VerificationError):
        check_inclusion(hashes[index], index, size, wrong, root)


@given(st.integers(1, 40), st.integers(0, 40), st.data())
def test_a_rewritten_beginning_is_not_consistent(
    first: int, more: int, data: st.DataObject
) -> None:
    hashes = leaves(first + more)
    changed = data.draw(st.integers(0, first - 1))
    rewritten = [*hashes[:changed], leaf_hash(b"other"), *hashes[changed + 1 :]]
    tree = Tree(leaves=rewritten)
    with pytest.raises(VerificationError):
        check_consistency(
            first, defined_root(hashes[:first]), tree.size, tree.root(), tree.consistency(first)
        )


def test_what_is_gone_is_not_proven() -> None:
    start = Frontier()
    for leaf in leaves(5):
        start.add(leaf)
    tree = Tree(start, leaves(9)[5:])
    with pytest.raises(ValueError, match="leaf 4 is not among 5 to 8"):
        tree.inclusion(4)
    with pytest.raises(ValueError, match="no longer at hand"):
        tree.consistency(3)
    with pytest.raises(ValueError, match="no consistency"):
        tree.consistency(3, 99)


def test_a_frontier_fits_its_size() -> None:
    with pytest.raises(ValueError, match="2 perfect subtrees"):
        Frontier(5, leaves(3))
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier(1, [b"short"])


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_stretch_proves_what_the_whole_tree_does(before: int, more: int) -> None:
    hashes = leaves(before + more)
    start = Frontier()
    for leaf in hashes[:before]:
        start.add(leaf)
    stretch = Stretch(start, hashes[before:])
    assert (len(stretch), stretch.size) == (more, before + more)
    assert stretch.consistency() == Tree(leaves=hashes).consistency(before)


def test_a_stretch_holds_a_few_hashes_however_long_it_is() -> None:
    start = Frontier()
    for leaf in leaves(1001):
        start.add(leaf)
    stretch, whole = Stretch(start), start.copy()
    for leaf in leaves(20_000):
        stretch.add(leaf)
        whole.add(leaf)
    assert len(stretch._nodes) <= 2 * 15
    check_consistency(start.size, start.root(), stretch.size, whole.root(), stretch.consistency())
    assert start.size == 1001
