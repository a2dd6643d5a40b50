"""Results of the watermark's benches, kept as they come, and of which code they are."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from watermark_corpus import ROOT, say

PRODUCT: Final = "voices/watermark"
BENCH: Final = ("watermark_attacks.py", "watermark_corpus.py", "watermark_hosts.py")


def fingerprint(*scripts: str, product: bool = True) -> str:
    """Sixteen hexadecimal digits that change with the code that marks, attacks and searches.

    Comments, docstrings and layout don't count. ``scripts`` are further files of this directory;
    without ``product`` the mark and its detector are left out.
    """
    paths = [ROOT / "scripts" / name for name in (*BENCH, *scripts)]
    if product:
        paths += sorted((ROOT / PRODUCT).rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_meaning(path.read_text("utf-8")).encode())
    return digest.hexdigest()[:16]


def _meaning(source: str) -> str:
    """Python code without what only people read."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            lines = getattr(node, field, None)
            if isinstance(lines, list):
                setattr(node, field, [line for line in lines if not _only_text(line)])
    return ast.dump(tree)


def _only_text(line: ast.AST) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


class Kept:
    """Rows in a JSON file, of one state of the code."""

    def __init__(self, path: Path, code: str, *, resume: bool) -> None:
        """``code`` is its :func:`fingerprint`. Rows of other code are left out, and told of."""
        self._path, self._code = path, code
        self.rows: list[dict[str, Any]] = []
        """Those that are there."""
        if not resume or not path.exists():
            return
        there = json.loads(path.read_text("utf-8"))
        if isinstance(there, dict) and there.get("code") == code:
            self.rows = there["rows"]
        else:
            say(f"{path.name}: its rows are of other code and are taken anew")

    def keep(self, rows: Sequence[dict[str, Any]]) -> None:
        """These are the rows now."""
        self.rows = list(rows)
        part = self._path.with_suffix(".part")
        kept = {"code": self._code, "rows": self.rows}
        part.write_text(json.dumps(kept, indent=1, ensure_ascii=False), "utf-8")
        part.replace(self._path)
