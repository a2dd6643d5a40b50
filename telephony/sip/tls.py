"""TLS as SIP uses it: 1.2 or newer, the far end's name verified (RFC 5922, RFC 3261 §26.3)."""

from __future__ import annotations

import ssl
from pathlib import Path

from ringtrue.telephony.sip.errors import SipError

LEAST = ssl.TLSVersion.TLSv1_2


def server_context(
    certificate: Path, key: Path | None = None, *, client_ca: Path | None = None
) -> ssl.SSLContext:
    """What we accept connections with.

    ``certificate`` is a PEM file with the chain, and the key too where ``key`` is None. With
    ``client_ca`` far ends must show a certificate that one of its authorities has signed.
    Raises :class:`SipError` naming a file that can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = LEAST
    _load_chain(context, certificate, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, client_ca)
    return context


def client_context(
    *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """What we connect with; far ends are always verified, and by name.

    ``ca`` is a PEM file of the authorities that count (None: the system's), ``certificate`` and
    ``key`` what we show where we are asked. Raises :class:`SipError` naming a file that can't
    be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = LEAST
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, ca)
    if certificate is not None:
        _load_chain(context, certificate, key)
    return context


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # An empty password, so that an encrypted key is an error and not a question.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        files = f"{certificate}" if key is None else f"{certificate} and {key}"
        why = error.reason or "not PEM, or the key needs a password"
        raise SipError(f"can't use certificate and key in {files}: {why}") from None
    except OSError as error:
        raise SipError(f"can't read {certificate} or its key: {error.strerror}") from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise SipError(f"no certificates (PEM) in {path}") from None
    except OSError as error:
        raise SipError(f"can't read {path}: {error.strerror}") from None
    if not context.cert_store_stats()["x509_ca"]:
        raise SipError(f"no certificate authority in {path}")
