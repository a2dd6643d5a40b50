"""The description of the HTTP interface as one page of plain HTML: no script, nothing fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of the page."""

_METHODS: Final = ("get", "post", "put", "patch", "delete")


def render(document: Mapping[str, Any], *, base: str, stylesheets: Sequence[str]) -> str:
    """``document`` (OpenAPI 3.1) as HTML; paths are shown below ``base``."""
    info = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(info['title'])}</title>",
        *(f'<link rel=stylesheet href="{escape(sheet)}">' for sheet in stylesheets),
        "</head><body class=reference>",
        f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f'<a href="{escape(base)}/openapi.json">OpenAPI</a></header>',
        "<main>",
        *(f"<p>{_text(line)}</p>" for line in info.get("description", "").split("\n\n") if line),
    ]
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                parts += _operation(method, base + path, operations[method])
    parts.append("<h2>Objects</h2>")
    for name, schema in sorted(schemas.items()):
        parts += _schema(name, schema)
    parts.append("</main></body></html>")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield "<section class=card>"
    yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    yield f"<p><strong>{escape(operation.get('summary', ''))}</strong></p>"
    for paragraph in operation.get("description", "").split("\n\n"):
        if paragraph:
            yield f"<p>{_text(paragraph)}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><caption>Parameters</caption><tbody>"
        for item in parameters:
            yield _row(item["name"], item["schema"], item.get("required", False), item["in"])
        yield "</tbody></table>"
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(kind)}</code> {_type(media.get('schema', {}))}</p>"
    yield "<table><caption>Answers</caption><tbody>"
    for status, answer in operation.get("responses", {}).items():
        types = ", ".join(
            f"<code>{escape(kind)}</code> {_type(media.get('schema', {}))}"
            for kind, media in answer.get("content", {}).items()
        )
        yield (
            f"<tr><td><code>{escape(status)}</code></td><td>{_text(answer['description'])}</td>"
            f"<td>{types}</td></tr>"
        )
    yield "</tbody></table></section>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section class=card id="{escape(name)}"><h3>{escape(name)}</h3>'
    if described := schema.get("description"):
        yield f"<p>{_text(described)}</p>"
    if choices := schema.get("enum"):
        yield f"<p>{', '.join(f'<code>{escape(str(choice))}</code>' for choice in choices)}</p>"
    if properties := schema.get("properties"):
        yield "<table><tbody>"
        for field, value in properties.items():
            yield _row(field, value, field in schema.get("required", ()))
        yield "</tbody></table>"
    yield "</section>"


def _row(name: str, schema: Mapping[str, Any], required: bool, where: str = "") -> str:
    notes = [where] if where else []
    notes.append("required" if required else "optional")
    if "default" in schema and schema["default"] is not None:
        notes.append(f"default <code>{escape(json.dumps(schema['default']))}</code>")
    described = _text(schema.get("description", ""))
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{_type(schema)}</td>"
        f"<td>{', '.join(notes)}</td><td>{described}</td></tr>"
    )


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(item) for item in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(item))}</code>" for item in schema["enum"])
    kind = escape(str(schema.get("type", "")))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{word} {escape(str(schema[key]))}"
        for key, word in (
            ("minLength", "at least"),
            ("maxLength", "at most"),
            ("minimum", "from"),
            ("maximum", "to"),
        )
        if key in schema
    ]
    return f"{kind} ({', '.join(limits)})" if limits else kind


def _text(text: str) -> str:
    """Escaped, with ``code`` between back quotes."""
    parts = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(parts))
