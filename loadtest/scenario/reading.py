"""Scenarios from files: those shipped by name, others by path. Errors name file and line."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from ringtrue.config.errors import Problem, SettingsError
from ringtrue.config.layers import parse_yaml
from ringtrue.config.problems import problems_of
from ringtrue.loadtest.scenario.schema import Scenario

MAX_BYTES: Final = 256 * 1024


class ScenarioError(SettingsError):
    """A scenario's file can't be used; every problem is listed."""


def shipped_folder() -> Path:
    """Where the scenarios are that come with the package."""
    return Path(str(resources.files("ringtrue.loadtest"))) / "scenarios"


def shipped_scenarios() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def find_scenario(name: str) -> Path:
    """The file of a shipped scenario, or the path that ``name`` is.

    Raises :class:`ScenarioError` naming those there are.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    known = shipped_scenarios()
    if name not in known:
        message = f"no scenario of this name; shipped: {', '.join(known)}; or a path to a .yaml"
        raise ScenarioError([Problem("", message, name)])
    return shipped_folder() / f"{name}.yaml"


def load_scenario(path: Path) -> Scenario:
    """Read one scenario's file; paths in it become absolute.

    Raises :class:`ScenarioError` naming file, line, key, value and what is allowed.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ScenarioError([Problem("", f"is larger than {MAX_BYTES} bytes", str(path))])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioError([Problem("", f"can't be read: {reason}", str(path))]) from None
    return parse_scenario(text, str(path), base=path.resolve().parent)


def parse_scenario(text: str, source: str, *, base: Path | None = None) -> Scenario:
    """The same from text; ``source`` names it in errors, ``base`` is what paths are relative to."""
    try:
        data = parse_yaml(text, source)
    except SettingsError as error:
        raise ScenarioError(error.problems) from None
    root = yaml.compose(text, yaml.SafeLoader)

    def origin(path: tuple[str, ...]) -> str:
        return f"{source}:{_line(root, path)}"

    if base is not None:
        _anchor(data, base)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(problems_of(error, Scenario, data, origin)) from None


def _line(node: yaml.Node | None, path: tuple[str, ...]) -> int:
    """The line, from 1, of what ``path`` names, or of the nearest thing around it."""
    line = 1
    for part in path:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            found = node.value[int(part)]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line


def _anchor(data: Any, base: Path) -> None:
    """Make ``wav`` and ``agents`` paths absolute, wherever they stand."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("wav", "agents") and isinstance(value, str):
                data[key] = str(base / Path(value).expanduser())
            else:
                _anchor(value, base)
    elif isinstance(data, list):
        for item in data:
            _anchor(item, base)
