"""Files from a model hub: resumable, checked, and nowhere before they are whole.

The hub's resolve addresses (``HUB/OWNER/REPO/resolve/REVISION/PATH``) answer with the file's
checksum in ``X-Linked-Etag`` (SHA-256 of large files) or ``ETag`` (of small ones git's, SHA-1 over
``blob SIZE\\0`` and the content) and send large files by redirection to another host. See
https://huggingface.co/docs/huggingface_hub/package_reference/file_download.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ringtrue.streaming.errors import RingtrueError

DEFAULT_HUB: Final = "https://huggingface.co"
MAX_FILE: Final = 8 << 30
"""Bytes."""

ATTEMPTS: Final = 5
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts."""

TIMEOUT: Final = httpx.Timeout(30.0)
MAX_REDIRECTS: Final = 5
SPARE: Final = 64 << 20
"""Bytes that must stay free on the disk."""

_ADDRESS: Final = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@]+?)(?:@([\w.-]+))?")
_HEX: Final = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")

OnBytes = Callable[[int, int], None]
"""Told how many bytes there are, and how many there will be."""


class FetchError(RingtrueError):
    """A file can't be had from the hub."""


class _Broken(Exception):
    """An attempt failed in a way that another may not."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a hub's repository, at a revision."""

    repository: str
    path: str
    revision: str

    @classmethod
    def parse(cls, address: str) -> HubFile:
        """``hf://OWNER/REPO/PATH@REVISION``; raises :class:`FetchError` for anything else."""
        match = _ADDRESS.fullmatch(address)
        if match is None or any(part in ("", ".", "..") for part in match[2].split("/")):
            raise FetchError(f"{address!r} is no address such as hf://OWNER/REPO/PATH@REVISION")
        return cls(match[1], match[2], match[3] or "main")

    def __str__(self) -> str:
        return f"hf://{self.repository}/{self.path}@{self.revision}"

    def url(self, hub: str) -> str:
        """Where ``hub`` has it."""
        return f"{hub.rstrip('/')}/{self.repository}/resolve/{self.revision}/{self.path}"


@dataclass(frozen=True, slots=True)
class _Found:
    url: str
    authorized: bool
    """Whether the token goes there too."""

    size: int
    checksum: str
    """SHA-256 (64 digits) or git's SHA-1 (40)."""


class Hub:
    """A client of one hub; close it after use."""

    def __init__(
        self,
        url: str = DEFAULT_HUB,
        *,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Ask the hub at ``url``, with ``token`` where it wants one.

        Raises :class:`FetchError` for an address that isn't http(s).
        """
        self._origin = httpx.URL(url)
        if self._origin.scheme not in ("http", "https") or not self._origin.host:
            raise FetchError(f"hub {url!r} is no address such as {DEFAULT_HUB}")
        self._url = url
        self._token = token
        self._sleep = sleep
        self._free = free
        self._client = httpx.Client(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def fetch(
        self, file: HubFile, target: Path, *, sha256: str | None = None,
        on_bytes: OnBytes = lambda done, total: None,
    ) -> str:  # fmt: skip
        """Get ``file`` into ``target``, and its SHA-256.

        What an earlier attempt left beside ``target`` is taken up. ``sha256`` must be the file's
        where given; the hub's own checksum must hold in any case. Blocks. Raises
        :class:`FetchError`; then ``target`` is untouched.
        """
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(file, target, sha256, on_bytes)
            except (_Broken, httpx.TransportError) as error:
                if attempt == ATTEMPTS - 1:
                    reason = str(error) or type(error).__name__
                    raise FetchError(
                        f"{file} can't be fetched after {ATTEMPTS} attempts: {reason}; "
                        "what came is kept, so fetching again goes on from there"
                    ) from None
                self._sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            except httpx.HTTPError as error:
                raise FetchError(f"{file} can't be fetched: {error}") from None
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise FetchError(
                        f"no space left in {target.parent} for {file}; make room and fetch again: "
                        "what came is kept"
                    ) from None
                raise FetchError(f"{file} can't be written: {error}") from None
        raise AssertionError("unreachable")

    def _attempt(self, file: HubFile, target: Path, sha256: str | None, on_bytes: OnBytes) -> str:
        found = self._look(file)
        if sha256 is not None and len(found.checksum) == 64 and found.checksum != sha256:
            raise FetchError(
                f"{file} has SHA-256 {found.checksum} on the hub, but {sha256} is expected"
            )
        partial = target.with_name(f"{target.name}.{found.checksum[:16]}.partial")
        have = partial.stat().st_size if partial.is_file() else 0
        if have > found.size:
            partial.unlink()
            have = 0
        need = found.size - have
        if (free := self._free(target.parent)) < need + SPARE:
            raise FetchError(
                f"{file} needs {need / 1e6:.0f} MB more in {target.parent}, where "
                f"{free / 1e6:.0f} MB are free; {SPARE / 1e6:.0f} MB must stay so"
            )
        on_bytes(have, found.size)
        if need or not partial.exists():
            self._download(found, partial, have, on_bytes)
        return _settled(file, found, partial, target, sha256)

    def _look(self, file: HubFile) -> _Found:
        """What the hub itself says of ``file``, and where its content is."""
        url = httpx.URL(file.url(self._url))
        for _ in range(MAX_REDIRECTS):
            response = self._client.head(url, headers=self._headers(url))
            self._check(file, response)
            onwards = url.join(response.headers["Location"]) if response.is_redirect else None
            if onwards is not None and self._is_hub(onwards):
                if (linked := _described(response)) is not None:
                    return _Found(str(onwards), True, *linked)
                url = onwards
                continue
            described = _described(response)
            if described is None:
                raise FetchError(f"the hub gives no size and checksum of {file}; it isn't taken")
            if described[0] > MAX_FILE:
                raise FetchError(f"{file} has {described[0]} bytes; at most {MAX_FILE} are taken")
            if onwards is None:
                return _Found(str(url), True, *described)
            if self._origin.scheme == "https" and onwards.scheme != "https":
                raise FetchError(f"the hub sends {file} from {onwards.host} without TLS")
            return _Found(str(onwards), False, *described)
        raise FetchError(f"the hub redirects {file} more than {MAX_REDIRECTS} times")

    def _is_hub(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (
            self._origin.scheme, self._origin.host, self._origin.port
        )  # fmt: skip

    def _headers(self, url: httpx.URL) -> dict[str, str]:
        if self._token and self._is_hub(url):
            return {"Authorization": f"Bearer {self._token}"}
        return {}

    def _check(self, file: HubFile, response: httpx.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            wanted = "with this token" if self._token else "without a token"
            raise FetchError(
                f"the hub refuses {file} {wanted}: accept its terms at "
                f"{self._url.rstrip('/')}/{file.repository}, then pass a token (--token, HF_TOKEN)"
            )
        if status == 404:
            raise FetchError(f"the hub has no {file}")
        if status == 429 or status >= 500:
            raise _Broken(f"the hub answers {status}")
        if status >= 400:
            raise FetchError(f"the hub answers {status} for {file}")

    def _download(self, found: _Found, partial: Path, have: int, on_bytes: OnBytes) -> None:
        headers = self._headers(httpx.URL(found.url)) if found.authorized else {}
        if have:
            headers["Range"] = f"bytes={have}-"
        url, redirects = httpx.URL(found.url), 0
        while True:
            with self._client.stream("GET", url, headers=headers) as response:
                if response.is_redirect and redirects < MAX_REDIRECTS:
                    url, redirects = url.join(response.headers["Location"]), redirects + 1
                    if not self._is_hub(url):
                        headers.pop("Authorization", None)
                    continue
                self._receive(response, found, partial, have, on_bytes)
                return

    def _receive(
        self, response: httpx.Response, found: _Found, partial: Path, have: int, on_bytes: OnBytes
    ) -> None:
        if response.status_code == 416:  # what is there is of another content
            partial.unlink(missing_ok=True)
            raise _Broken("the rest of the file isn't given")
        resumed = response.status_code == 206 and response.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {have}-")
        if not (resumed or response.status_code == 200):
            raise _Broken(f"the file's host answers {response.status_code}")
        done = have if resumed else 0
        with partial.open("ab" if resumed else "wb") as out:
            for block in response.iter_raw():
                done += len(block)
                if done > found.size:
                    break
                out.write(block)
                on_bytes(done, found.size)
        if done > found.size:
            partial.unlink()
            raise _Broken("more came than the hub said")
        if done < found.size:
            raise _Broken(f"{done} of {found.size} bytes came")


def _described(response: httpx.Response) -> tuple[int, str] | None:
    """Size and checksum as the hub's headers have them."""
    headers = response.headers
    etag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
    checksum = etag.removeprefix("W/").strip('"').lower()
    size = headers.get("X-Linked-Size")
    if size is None and not response.is_redirect:
        size = headers.get("Content-Length")
    if size is None or not size.isdecimal() or not _HEX.fullmatch(checksum):
        return None
    return int(size), checksum


def _settled(file: HubFile, found: _Found, partial: Path, target: Path, sha256: str | None) -> str:
    """Check what came and put it in its place."""
    digest = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % found.size, usedforsecurity=False)
    with partial.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
            git.update(block)
    got = digest.hexdigest()
    expected = found.checksum if len(found.checksum) == 64 else None
    if got not in {expected or got} & {sha256 or got} or (
        expected is None and git.hexdigest() != found.checksum
    ):
        partial.unlink()
        wanted = sha256 or expected or f"git {found.checksum}"
        raise FetchError(f"{file} came with SHA-256 {got} instead of {wanted}; it was thrown away")
    partial.replace(target)
    return got
