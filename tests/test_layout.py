"""The source tree's own rules, read from the syntax: who imports whom, and what no module does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ringtrue.config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "streaming", "telephony", "voices", "loadtest", "config")

MAY_IMPORT = {
    "config": set(),
    "streaming": {"config"},
    "telephony": {"config", "streaming"},
    "voices": {"config", "streaming"},
    "loadtest": {"config", "streaming", "telephony"},
    "agent": {"config", "streaming", "telephony", "voices", "loadtest"},
}
"""One way: config <- streaming <- {telephony, voices} <- agent. Only the agent's commands may
start the load test; nothing the load test needs leads back to the agent."""

MEDIA = ("streaming", "telephony", "voices")
MAX_LINES = 500

MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """Absolute names of what a module imports, inside functions and TYPE_CHECKING too."""
    package = ("ringtrue", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def violations(source: str, path: Path) -> list[str]:
    """Everything a module does that the layout forbids."""
    tree = ast.parse(source)
    room = room_of(path)
    found = set()
    for name in imports(tree, path):
        parts = name.split(".")
        if parts[0] in ROOMS:
            found.add(f"imports {name} without the namespace")
        if parts[0] == "ringtrue" and len(parts) > 1:
            other = parts[1]
            if other != room and other not in MAY_IMPORT[room]:
                found.add(f"imports ringtrue.{other}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called in ("create_task", "asyncio.create_task", "asyncio.ensure_future"):
                found.add(f"line {node.lineno}: {called} whose task nobody keeps")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "time.time" and room in MEDIA:
                found.add(f"line {node.lineno}: wall clock in media code")
            if called == "print" and room != "agent":
                found.add(f"line {node.lineno}: print in library code")
    if (lines := source.count("\n")) > MAX_LINES:
        found.add(f"{lines} lines, more than {MAX_LINES}")
    return sorted(found)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_keeps_the_rules(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("config", "from ringtrue.streaming.ports import Call", "imports ringtrue.streaming"),
        ("streaming", "import ringtrue.telephony.sdp", "imports ringtrue.telephony"),
        ("telephony", "def f():\n    from ringtrue import voices", "imports ringtrue.voices"),
        ("voices", "from ..telephony import sdp", "imports ringtrue.telephony"),
        ("loadtest", "import ringtrue.agent", "imports ringtrue.agent"),
        ("agent", "import streaming.clock", "imports streaming.clock without the namespace"),
        ("agent", "asyncio.create_task(f())", "nobody keeps"),
        ("streaming", "now = time.time()", "wall clock"),
        ("voices", "print('x')", "print"),
        ("voices", "\n" * 501, "501 lines"),
    ],
)
def test_the_rules_bite(room: str, source: str, complaint: str) -> None:
    found = violations(source, ROOT / room / "module.py")
    assert any(complaint in text for text in found), found


def test_every_package_is_importable() -> None:
    """A folder with modules but no ``__init__`` would be missing from the wheel."""
    bare = {name_of(path.parent) for path in MODULES if not (path.parent / "__init__.py").is_file()}
    assert bare == set()


def test_the_namespace_has_no_init() -> None:
    assert not (ROOT / "ringtrue").exists()
    assert not (ROOT / "__init__.py").exists()
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file(), room


def test_every_setting_is_read() -> None:
    """A key that nothing reads would promise what the server does not do."""
    sources = [
        path.read_text(encoding="utf-8")
        for path in MODULES
        if room_of(path) in ("agent", "streaming", "telephony", "voices")
        and not path.name.startswith("doctor")
    ]
    text = "\n".join(sources)
    unread = set()
    for section, field in Settings.model_fields.items():
        for model in get_args(field.annotation) or (field.annotation,):
            unread |= {
                f"{section}.{key}"
                for key in model.model_fields
                if key != "engine" and not re.search(rf"\.{key}\b", text)
            }
    assert unread == set()
