"""What a PocketSphinx decoder listens for, as configured and as sent to the workers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ringtrue.streaming.errors import RecognizerError
from ringtrue.streaming.recognizers.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Grammar:
    """At most one of ``vocabulary``, ``jsgf`` and ``lm``; none means the general English model."""

    vocabulary: Vocabulary | None = None
    """Example phrases; compiled into a trigram model and a dictionary of just their words."""

    jsgf: Path | None = None
    """A JSpeech Grammar Format file: only what it spells out can be recognized."""

    lm: Path | None = None
    """An n-gram model file, ARPA or PocketSphinx binary."""

    dictionary: Path | None = None
    """CMU-format dictionary instead of the one that ships with PocketSphinx."""

    pronunciations: dict[str, str] = field(default_factory=dict)
    """Own pronunciations for words of ``jsgf``; a vocabulary carries its own."""

    def __post_init__(self) -> None:
        """Raises :class:`~ringtrue.streaming.errors.RecognizerError` for two sources or no file."""
        named = [name for name in ("vocabulary", "jsgf", "lm") if getattr(self, name) is not None]
        if len(named) > 1:
            raise RecognizerError(
                f"a grammar takes one of vocabulary, jsgf or lm, got {' and '.join(named)}"
            )
        for name in ("jsgf", "lm", "dictionary"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise RecognizerError(f"grammar: {name} {str(path)!r} is not a file")

    @property
    def kind(self) -> str:
        """``vocabulary``, ``jsgf``, ``lm`` or ``general``."""
        for name in ("vocabulary", "jsgf", "lm"):
            if getattr(self, name) is not None:
                return name
        return "general"

    @property
    def key(self) -> str:
        """Short digest of the definition: equal grammars share decoders."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The definition as one line of JSON."""
        return json.dumps(asdict(self), default=str, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Grammar:
        """The inverse of :meth:`to_json`."""
        fields: dict[str, Any] = json.loads(text)
        if fields["vocabulary"] is not None:
            raw = fields["vocabulary"]
            raw["phrases"] = tuple(raw["phrases"])
            raw["slots"] = {name: tuple(values) for name, values in raw["slots"].items()}
            fields["vocabulary"] = Vocabulary(**raw)
        for name in ("jsgf", "lm", "dictionary"):
            if fields[name] is not None:
                fields[name] = Path(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class GrammarReport:
    """What loading a grammar found."""

    words: int
    """Words that can be recognized; 0 where the model's own dictionary is used whole."""

    guessed: dict[str, str]
    """Words in no dictionary, with the pronunciation guessed for them."""

    seconds: float
    """Time to compile it and create the first decoder."""
