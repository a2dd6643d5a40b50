"""HTML and SVG built as text in which everything that is not markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

VOID: Final = frozenset({"meta", "br", "img", "hr", "line", "path", "rect", "circle", "image"})
"""Elements that are written without a closing tag (SVG's are closed at once)."""

_SVG_VOID: Final = frozenset({"line", "path", "rect", "circle", "image"})


class Markup(str):
    """Text that is markup already. Only this module makes it."""

    __slots__ = ()


def el(tag: str, *children: str | float, **attributes: str | float | None) -> Markup:
    """An element. Children that are no :class:`Markup` are escaped, attributes always.

    An attribute's name is written without a trailing ``_`` and with ``-`` for the other ``_``;
    one that is None is left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID and not children:
        return Markup(f"<{tag}{given}{'/' if tag in _SVG_VOID else ''}>")
    return Markup(f"<{tag}{given}>{joined(children)}</{tag}>")


def joined(children: Iterable[str | float]) -> Markup:
    """Children one after the other, escaped where they are no markup."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(_text(child)) for child in children
        )
    )


def style(css: str) -> Markup:
    """A style element: its text is ours and stays as it is, so that its hash holds.

    Raises ``ValueError`` for text that would end the element.
    """
    if "</" in css:
        raise ValueError("a style sheet may not hold '</'")
    return Markup(f"<style>{css}</style>")


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
