"""Validation errors in words: the dotted key, the value, and what would be allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from ringtrue.config.errors import Problem

_SECRET: Final = re.compile(
    r"key|token|secret|passw|passphrase|credential|auth|private|signature", re.IGNORECASE
)
_BOUNDS: Final = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_LENGTHS: Final = (("min_length", "at least"), ("max_length", "at most"))
_NAMES: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    SecretStr: "text (secret)",
}
_MAX_SHOWN: Final = 60


def is_secret_name(name: str) -> bool:
    """Whether a key's name says that its value is a secret."""
    return _SECRET.search(name) is not None and not name.endswith(("_ttl_seconds", "max_tokens"))


def problems_of(
    error: ValidationError,
    schema: type[BaseModel],
    data: Mapping[str, Any],
    origin: Callable[[tuple[str, ...]], str],
) -> list[Problem]:
    """Every error of one validation; ``origin`` says where the value at a path came from."""
    problems = []
    for item in error.errors(include_url=False, include_context=True):
        path = _data_path(item["loc"], data)
        kind, value, context = item["type"], item["input"], item.get("ctx", {})
        secret = any(map(is_secret_name, path))
        if item["loc"] and item["loc"][-1] == "[key]":
            said = item["msg"][:1].lower() + item["msg"][1:]
            message = f"{path[-1]!r} can't be a name here: {said}"
        elif kind == "extra_forbidden":
            message = unknown_key(path[-1], value, _model_at(schema, path[:-1], data))
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tags = _tags(schema, path)
            engine = value.get("engine") if isinstance(value, Mapping) else None
            path = (*path, "engine")
            message = f"is {_shown(engine)}; allowed: {', '.join(tags)}{_meant(engine, tags)}"
        elif kind == "missing":
            message = f"must be given; allowed: {_allowed(_field_at(schema, path, data))}"
        elif kind in ("value_error", "assertion_error") and isinstance(value, Mapping | BaseModel):
            message = str(context.get("error", item["msg"]))
        else:
            field = _field_at(schema, path, data)
            secret = secret or (field is not None and _holds_secret(field.annotation))
            message = f"is {_shown(value, secret=secret)}"
            if kind == "value_error":
                message += f": {context['error']}"
            message += f"; allowed: {_allowed(field) if field else item['msg'].lower()}"
            message += _meant(value, _choices(field.annotation) if field and not secret else ())
        problems.append(Problem(".".join(path), message, origin(path)))
    return problems


def unknown_key(key: str, value: Any, model: type[BaseModel] | None) -> str:
    """Say that ``key`` is none of ``model``'s, what it may have meant, and what there is."""
    names = list(model.model_fields) if model else []
    # A misspelt secret is still one: mask it wherever the section itself has any.
    secret = is_secret_name(key) or model is None
    secret = secret or any(_holds_secret(f.annotation, deep=False) for f in _fields(model))
    return f"unknown key (value {_shown(value, secret=secret)}){_meant(key, names)}; allowed: " + (
        ", ".join(names) or "nothing"
    )


def _meant(value: object, choices: Sequence[str]) -> str:
    if not isinstance(value, str):
        return ""
    close = difflib.get_close_matches(value.lower(), [c.lower() for c in choices], n=1, cutoff=0.6)
    return f"; did you mean {next(c for c in choices if c.lower() == close[0])}?" if close else ""


def _shown(value: Any, *, secret: bool = False) -> str:
    if isinstance(value, Mapping | BaseModel):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    if value is None:
        return "not set"
    if secret or isinstance(value, SecretStr):
        return "'****'"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _data_path(loc: tuple[int | str, ...], data: Any) -> tuple[str, ...]:
    """Pydantic's location without the tags it inserts for the chosen member of a union."""
    path: list[str] = []
    node: Any = data
    for i, part in enumerate(loc):
        if part == "[key]" and i == len(loc) - 1:  # pydantic's way to say that the name is wrong
            continue
        tag = isinstance(node, Mapping) and part not in node and node.get("engine") == part
        if tag and i < len(loc) - 1:
            continue
        path.append(str(part))
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            node = None
    return tuple(path)


def _members(annotation: Any) -> list[Any]:
    """The annotation's alternatives, unions and containers opened."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [m for arg in get_args(annotation) for m in _members(arg)]
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _members(get_args(annotation)[0])
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    found = []
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            found.append(member)
        elif get_origin(member) in (tuple, list):
            found += [m for arg in get_args(member) if arg is not ... for m in _models(arg)]
    return found


def _model_at(
    schema: type[BaseModel], path: tuple[str, ...], data: Mapping[str, Any]
) -> type[BaseModel] | None:
    model: type[BaseModel] | None = schema
    named: type[BaseModel] | None = None
    node: Any = data
    for part in path:
        if named is not None:  # the name of a section among others of its kind
            node = node.get(part) if isinstance(node, Mapping) else None
            model, named = named, None
            continue
        if isinstance(node, list | tuple):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
            continue
        node = node.get(part) if isinstance(node, Mapping) else None
        field = model.model_fields.get(part) if model else None
        models = _models(field.annotation) if field else []
        engine = node.get("engine") if isinstance(node, Mapping) else None
        model = next(
            (m for m in models if len(models) == 1 or engine in _choices_of(m, "engine")), None
        )
        named = _named_model(field.annotation) if field and model is None else None
    return model


def _named_model(annotation: Any) -> type[BaseModel] | None:
    """The model of the values of a mapping from names to sections."""
    for member in _members(annotation):
        if get_origin(member) is dict:
            return next(iter(_models(get_args(member)[1])), None)
    return None


def _field_at(
    schema: type[BaseModel], path: tuple[str, ...], data: Mapping[str, Any]
) -> FieldInfo | None:
    """The field that ``path`` names; for an item inside a plain list, the list's field."""
    for length in range(len(path), 0, -1):
        model = _model_at(schema, path[: length - 1], data)
        if model and path[length - 1] in model.model_fields:
            return model.model_fields[path[length - 1]]
    return None


def _choices_of(model: type[BaseModel], name: str) -> list[str]:
    field = model.model_fields.get(name)
    return _choices(field.annotation) if field else []


def _choices(annotation: Any) -> list[str]:
    found: list[str] = []
    for member in _members(annotation):
        if get_origin(member) is Literal:
            found += [str(value) for value in get_args(member)]
        elif get_origin(member) in (tuple, list):
            found += [c for arg in get_args(member) if arg is not ... for c in _choices(arg)]
        elif isinstance(member, type) and issubclass(member, Enum):
            found += [str(value.value) for value in member]
    return found


def _tags(schema: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    field = schema.model_fields.get(path[0]) if path else None
    models = _models(field.annotation) if field else []
    return [tag for model in models for tag in _choices_of(model, "engine")]


def _fields(model: type[BaseModel] | None) -> list[FieldInfo]:
    return list(model.model_fields.values()) if model else []


def _holds_secret(annotation: Any, *, deep: bool = True) -> bool:
    """Whether the value given could be, or (``deep``) could contain in a section, a secret."""
    for member in _members(annotation):
        arguments = get_args(member)
        if member is SecretStr or Any in arguments:
            return True
        if isinstance(member, type) and issubclass(member, BaseModel):
            if deep and any(_holds_secret(field.annotation) for field in _fields(member)):
                return True
        elif get_origin(member) is not Literal and any(
            _holds_secret(arg, deep=deep) for arg in arguments if arg is not ...
        ):
            return True
    return False


def _allowed(field: FieldInfo | None) -> str:
    """The field's type, choices and bounds in words."""
    if field is None:
        return "see the documentation"
    members = _members(field.annotation)
    words = []
    for member in members:
        origin = get_origin(member)
        if choices := _choices(member):
            words.append(("a list of " if origin in (tuple, list) else "") + ", ".join(choices))
        elif origin in (tuple, list):
            inner = get_args(member)[0]
            words.append(f"a list of {_NAMES.get(inner, 'sections')}")
        elif origin is dict or member is dict or _models(member):
            words.append("a mapping")
        elif member is not NoneType:
            words.append(_NAMES.get(member, getattr(member, "__name__", str(member))))
    text = " or ".join(dict.fromkeys(words))
    limits = _limits(field, _BOUNDS, "")
    limits += _limits(field, _LENGTHS, " items" if "list" in text else " characters")
    text += f" {' and '.join(limits)}" if limits else ""
    return text + (", or null" if NoneType in members else "")


def _limits(field: FieldInfo, names: tuple[tuple[str, str], ...], unit: str) -> list[str]:
    metadata = list(field.metadata)
    for member in get_args(field.annotation):
        metadata += getattr(member, "__metadata__", ())
    flat = [c for m in metadata for c in (m.metadata if isinstance(m, FieldInfo) else [m])]
    return [
        f"{word} {getattr(item, name)}{unit}"
        for item in flat
        for name, word in names
        if getattr(item, name, None) is not None
    ]
