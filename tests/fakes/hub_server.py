"""A model hub as far as fetching goes: resolve addresses, a content host apart, and its troubles.

The hub answers ``/OWNER/REPO/resolve/REVISION/PATH`` with the file's size and checksum. Large files
are sent by redirection to another origin, small ones by a relative redirection, as
https://huggingface.co does.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = 10_000
"""Files above this are on the content host, with SHA-256; below, git's SHA-1."""


@dataclass
class HubServer:
    """A running hub."""

    url: str = ""
    content_url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """``OWNER/REPO/resolve/REVISION/PATH`` → content."""

    token: str | None = None
    """What must be given, where something must."""

    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path with its host's name, headers in lower case."""

    cut_after: deque[int] = field(default_factory=deque)
    """One entry a content answer: bytes after which the connection breaks."""

    statuses: deque[int] = field(default_factory=deque)
    """Answers given instead of the next ones."""

    spoil: bool = False
    """Send other content than the checksum's."""

    ranges: bool = True
    described: bool = True

    def sent(self) -> Counter[str]:
        """Content answers by path."""
        return Counter(path for method, path, _ in self.log if method == "GET")


def checksum(content: bytes) -> str:
    """As the hub gives it."""
    if len(content) > LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: HubServer, *, content_host: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            name = self.path.lstrip("/")
            headers = {key.lower(): value for key, value in self.headers.items()}
            place = "content" if content_host else "hub"
            hub.log.append((self.command, f"{place}:{name}", headers))
            if hub.statuses:
                self._send(hub.statuses.popleft(), {})
            elif not content_host and hub.token and (
                headers.get("authorization") != f"Bearer {hub.token}"
            ):  # fmt: skip
                self._send(401, {})
            elif name.startswith("api/") or content_host:
                self._content(name.removeprefix("api/"), headers, body)
            elif name not in hub.files:
                self._send(404, {"X-Error-Code": "EntryNotFound"})
            else:
                self._resolve(name)

        def _resolve(self, name: str) -> None:
            content = hub.files[name]
            if len(content) > LARGE:
                found = {"Location": f"{hub.content_url}/{name}"}
                if hub.described:
                    found |= {
                        "X-Linked-Etag": f'"{checksum(content)}"',
                        "X-Linked-Size": str(len(content)),
                    }
                self._send(302, found)
            else:
                self._send(307, {"Location": f"/api/{name}"})

        def _content(self, name: str, headers: dict[str, str], body: bool) -> None:
            content = hub.files[name]
            etag = {"ETag": f'"{checksum(content)}"'} if hub.described else {}
            if hub.spoil:
                content = bytes(len(content))
            start, status = 0, 200
            wanted = headers.get("range", "")
            if hub.ranges and wanted.startswith("bytes="):
                start, status = int(wanted[6:].rstrip("-")), 206
                if start >= len(content):
                    self._send(416, {})
                    return
                etag["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            piece = content[start:]
            cut = hub.cut_after.popleft() if body and hub.cut_after else None
            self.send_response(status)
            for key, value in {**etag, "Content-Length": str(len(piece))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(piece[:cut])
            self.close_connection = cut is not None

        def _send(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(key, value)
            self.end_headers()

    return Handler


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Serve on two ephemeral loopback ports until the block ends."""
    hub = HubServer()
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, content_host=content_host))
        for content_host in (False, True)
    ]
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    hub.url, hub.content_url = (f"http://127.0.0.1:{s.server_address[1]}" for s in servers)
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
