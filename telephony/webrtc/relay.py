"""Credentials for a TURN server that shares a secret with us and expire by themselves.

The user name is the time of expiry and a name, ``1732217000:caller``, the password its HMAC-SHA1
under the secret, in base64. Source: "A REST API For Access To TURN Services",
draft-uberti-behave-turn-rest-00 §2.2; coturn's ``use-auth-secret``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from pydantic import SecretStr

from ringtrue.config.webrtc_settings import IceServer


def relay_server(
    urls: Sequence[str], secret: str, *, user: str, now: float, ttl: float
) -> IceServer:
    """The server at ``urls`` with credentials for ``user`` that hold until ``now + ttl``.

    ``now`` is Unix time in seconds. Raises ``ValueError`` for a ``user`` with a colon.
    """
    if ":" in user:
        raise ValueError(f"user {user!r} has a colon; allowed: any other character")
    username = f"{int(now + ttl)}:{user}"
    mac = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return IceServer(
        urls=tuple(urls),
        username=username,
        credential=SecretStr(base64.b64encode(mac).decode("ascii")),
    )
