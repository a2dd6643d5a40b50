"""Where settings come from: shipped defaults, one YAML file, the environment; the last wins.

Reading and merging only; :mod:`ringtrue.config.problems` turns validation errors into words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ringtrue.config.errors import Problem, SettingsError
from ringtrue.config.problems import problems_of, unknown_key

ENV_PREFIX: Final = "RINGTRUE_"
NESTED: Final = "__"

RESERVED: Final = frozenset({"RINGTRUE_CONFIG", "RINGTRUE_MASTER_KEYS", "RINGTRUE_API_KEY"})
"""Variables with the prefix that are no settings: the path of the settings file itself, and the
master keys and a command's API key, which no settings object ever holds."""

PATH_KEYS: Final = (
    ("sip", "registrations", "*", "password_file"),
    ("sip", "callers", "users", "*", "password_file"),
    ("sip", "tls", "certificate"),
    ("sip", "tls", "key"),
    ("sip", "tls", "client_ca"),
    ("sip", "tls", "ca"),
    ("sip", "tls", "client_certificate"),
    ("sip", "tls", "client_key"),
    ("stt", "file"),
    ("agents", "dir"),
    ("voices", "dir"),
    ("voices", "master_keys_file"),
    ("voices", "signing_key_file"),
    ("voices", "watermark_key_file"),
    ("voices", "pocket", "model"),
    ("audit", "dir"),
    ("outbound", "usage_file"),
    ("audit", "signing_key_file"),
    ("audit", "text_key_file"),
    ("records", "dir"),
    ("recordings", "dir"),
    ("recordings", "key_file"),
    ("outbound", "usage_file"),
    ("paths", "libraries"),
    ("paths", "cache"),
)
"""Settings that are paths; in a file they are relative to it. ``*`` is any name."""

FREE: Final = "settings"
"""The key below an engine section whose content is another library's: scalars are read as YAML."""

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one place, nested as in YAML."""

    source: str
    data: dict[str, Any]
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Which environment variable set a key, by its path."""

    def holds(self, path: tuple[str, ...]) -> bool:
        """Whether this layer sets ``path`` or something inside it."""
        node: Any = self.data
        for part in path:
            if not isinstance(node, Mapping) or part not in node:
                return False
            node = node[part]
        return True

    def origin(self, path: tuple[str, ...]) -> str:
        """Name the variable that set ``path``, or else the nearest to it; or the file."""
        for wanted in (path, path[:-1]):
            for set_path, name in self.variables.items():
                shared = min(len(wanted), len(set_path))
                if shared and set_path[:shared] == wanted[:shared]:
                    return name
        return self.source


class _Loader(yaml.SafeLoader):
    """Safe YAML whose keys are text as written (``100: x``, ``on: x``) and may not repeat."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:  # PyYAML's signature
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            if key_node.value in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            mapping[key_node.value] = self.construct_object(value_node, deep=True)
        return mapping


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML document that must be a mapping (or empty); keys are strings.

    Raises :class:`SettingsError` with line and column.
    """
    try:
        data = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or type(error).__name__
        raise SettingsError([Problem("", f"not valid YAML{where}: {what}", source)]) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise SettingsError([Problem("", f"must be a mapping of sections, not a {kind}", source)])
    return data


def file_layer(path: Path) -> Layer:
    """Read one YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError([Problem("", f"can't be read: {reason}", str(path))]) from None
    data = parse_yaml(text, str(path))
    for *sections, key in PATH_KEYS:
        for held in _sections(data, sections):
            if key in held:
                held[key] = _anchored(held[key], path.resolve().parent)
    return Layer(str(path), data)


def _sections(data: Any, path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The mappings at ``path``, as far as they are there and are mappings."""
    if not isinstance(data, dict):
        return
    if not path:
        yield data
        return
    for name in data if path[0] == "*" else path[:1]:
        yield from _sections(data.get(name), path[1:])


def _anchored(value: Any, base: Path) -> Any:
    if isinstance(value, list):
        return [_anchored(item, base) for item in value]
    return str(base / Path(value).expanduser()) if isinstance(value, str) else value


def default_layer() -> Layer:
    """The embedded defaults, from the installed package."""
    text = (resources.files("ringtrue.config") / "default.yaml").read_text(encoding="utf-8")
    return Layer("shipped defaults", parse_yaml(text, "shipped defaults"))


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """``RINGTRUE_A__B=x`` as ``{a: {b: x}}``; empty variables count as not set.

    Values stay text (the schema converts them), except ``null``, ``[...]`` and ``{...}``, which
    are YAML, as is everything below a service's ``settings``.
    """
    data: dict[str, Any] = {}
    variables: dict[tuple[str, ...], str] = {}
    for name in sorted(environ):
        if not name.upper().startswith(ENV_PREFIX) or name in RESERVED or not environ[name]:
            continue
        path = tuple(name[len(ENV_PREFIX) :].lower().split(NESTED))
        node = data
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                clash = "a longer variable sets a part of what this one sets whole"
                raise SettingsError([Problem(".".join(path), clash, name)])
            node = inner
        node[path[-1]] = _env_value(path, environ[name], name)
        variables[path] = name
    return Layer("environment", data, variables)


def _env_value(path: tuple[str, ...], text: str, name: str) -> Any:
    free = FREE in path[1:-1]
    if not free and text != "null" and text[0] not in "[{":
        return text
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise SettingsError(
            [Problem(".".join(path), "begins like YAML or JSON but can't be read as such", name)]
        ) from None


def load_layers(path: Path | None, environ: Mapping[str, str] | None) -> list[Layer]:
    """Defaults, file, environment: weakest first."""
    layers = [default_layer()]
    if path is not None:
        layers.append(file_layer(path))
    layers.append(environment_layer(os.environ if environ is None else environ))
    return layers


def merged(layers: list[Layer]) -> dict[str, Any]:
    """All layers as one; a section whose ``engine`` changes is replaced, not mixed."""
    result: dict[str, Any] = {}
    for layer in layers:
        result = _merge(result, layer.data)
    return result


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            changed = "engine" in value and value["engine"] != under.get("engine")
            result[key] = dict(value) if changed else _merge(under, value)
        else:
            result[key] = value
    return result


def validated(schema: type[T], layers: list[Layer]) -> T:
    """Build ``schema`` from the merged layers; raises :class:`SettingsError`."""
    data = merged(layers)

    def origin(path: tuple[str, ...]) -> str:
        for length in range(len(path), 0, -1):
            for layer in reversed(layers):
                if layer.holds(path[:length]):
                    return layer.origin(path)
        return layers[0].source

    problems = [
        Problem(key, unknown_key(key, data[key], schema), origin((key,)))
        for key in sorted(set(data) - set(schema.model_fields))
    ]
    known = {key: value for key, value in data.items() if key in schema.model_fields}
    try:
        result = schema(**known)
    except ValidationError as error:
        problems += problems_of(error, schema, known, origin)
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return result
