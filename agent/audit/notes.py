"""Signing notes and checkpoints; :mod:`~ringtrue.agent.audit.published` opens them."""

from __future__ import annotations

import base64

from ringtrue.agent.audit.published import Checkpoint, note_key_id
from ringtrue.voices.keys.signing import Signer


def sign_note(body: str, signer: Signer) -> str:
    """A signed note (C2SP signed-note) in the name of its first line.

    Raises ValueError for a body that doesn't end in one newline or holds an empty line.
    """
    if not body.endswith("\n") or "\n\n" in body or body.startswith("\n"):
        raise ValueError("a note's lines are not empty, and each ends in a newline")
    name = body.split("\n", 1)[0]
    signed = note_key_id(name, signer.public) + signer.sign(body.encode())
    return f"{body}\n— {name} {base64.b64encode(signed).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """The note that says ``checkpoint``."""
    return sign_note(checkpoint.body(), signer)
