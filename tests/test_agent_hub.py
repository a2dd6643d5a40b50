"""Fetching a file from a hub: redirections, checksums, resuming, and every way it may fail."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.hub_server import HubServer, checksum, hub_server
from ringtrue.agent.hub import ATTEMPTS, SPARE, FetchError, Hub, HubFile

LARGE = random.Random(1).randbytes(700_000)
SMALL = b'{"a": 1}'
NAME = "kyutai/pocket/resolve/abc/m/model.safetensors"
FILE = HubFile("kyutai/pocket", "m/model.safetensors", "abc")
SHA256 = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def server() -> Iterator[HubServer]:
    with hub_server() as hub:
        hub.files = {NAME: LARGE, "kyutai/pocket/resolve/abc/small.json": SMALL}
        yield hub


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def hub(server: HubServer, pauses: list[float]) -> Iterator[Hub]:
    client = Hub(server.url, sleep=pauses.append)
    yield client
    client.close()


def partial(target: Path, content: bytes = LARGE) -> Path:
    return target.with_name(f"{target.name}.{checksum(content)[:16]}.partial")


def test_a_large_file_comes_from_the_content_host(
    server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    target, told = tmp_path / "w", []
    found = hub.fetch(FILE, target, on_bytes=lambda done, total: told.append((done, total)))
    assert found == SHA256
    assert target.read_bytes() == LARGE
    assert told[0] == (0, len(LARGE))
    assert told[-1] == (len(LARGE), len(LARGE))
    assert server.sent() == {f"content:{NAME}": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_small_file_is_checked_by_git_s_hash(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "s"
    small = HubFile("kyutai/pocket", "small.json", "abc")
    assert hub.fetch(small, target) == hashlib.sha256(SMALL).hexdigest()
    assert target.read_bytes() == SMALL


def test_the_token_goes_to_the_hub_and_nowhere_else(server: HubServer, tmp_path: Path) -> None:
    server.token = "hf_secret"
    client = Hub(server.url, token="hf_secret")
    client.fetch(FILE, tmp_path / "w")
    client.close()
    for _, path, headers in server.log:
        assert ("authorization" in headers) is path.startswith("hub:"), path


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_a_refusal_says_what_to_do_and_not_the_token(
    server: HubServer, tmp_path: Path, token: str | None
) -> None:
    server.token = "hf_right"
    client = Hub(server.url, token=token)
    with pytest.raises(FetchError, match="accept its terms at .*kyutai/pocket") as caught:
        client.fetch(FILE, tmp_path / "w")
    client.close()
    assert "hf_" not in str(caught.value)


def test_a_broken_connection_is_taken_up_where_it_broke(
    server: HubServer, hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    server.cut_after.extend([100_000, 250_000])
    assert hub.fetch(FILE, tmp_path / "w") == SHA256
    ranges = [h.get("range") for m, p, h in server.log if m == "GET"]
    assert ranges == [None, "bytes=100000-", "bytes=350000-"]
    assert pauses == [1.0, 2.0]


def test_what_an_earlier_process_left_is_taken_up(
    server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    target = tmp_path / "w"
    partial(target).write_bytes(LARGE[:600_000])
    assert hub.fetch(FILE, target) == SHA256
    assert server.log[-1][2]["range"] == "bytes=600000-"


def test_a_whole_partial_is_only_checked(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "w"
    partial(target).write_bytes(LARGE)
    assert hub.fetch(FILE, target) == SHA256
    assert server.sent() == {}


def test_a_host_without_ranges_sends_all_again(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after.append(100_000)
    assert hub.fetch(FILE, tmp_path / "w") == SHA256


def test_a_partial_of_other_content_is_thrown_away(
    server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    target = tmp_path / "w"
    partial(target).write_bytes(b"x" * 1000)
    with pytest.raises(FetchError, match=f"instead of {SHA256}; it was thrown away"):
        hub.fetch(FILE, target)
    assert list(tmp_path.iterdir()) == []
    assert hub.fetch(FILE, target) == SHA256


def test_wrong_content_never_arrives(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    server.spoil = True
    for file in (FILE, HubFile("kyutai/pocket", "small.json", "abc")):
        with pytest.raises(FetchError, match="thrown away"):
            hub.fetch(file, tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_pin_beats_the_hub(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"{SHA256} on the hub, but {'0' * 64} is expected"):
        hub.fetch(FILE, tmp_path / "w", sha256="0" * 64)
    small = HubFile("kyutai/pocket", "small.json", "abc")
    with pytest.raises(FetchError, match=f"instead of {'0' * 64}"):
        hub.fetch(small, tmp_path / "w", sha256="0" * 64)
    assert hub.fetch(FILE, tmp_path / "w", sha256=SHA256) == SHA256


def test_a_hub_that_is_always_cut_off_is_given_up(
    server: HubServer, hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    server.cut_after.extend([10] * 20)
    target = tmp_path / "w"
    with pytest.raises(FetchError, match=f"after {ATTEMPTS} attempts.*goes on from there"):
        hub.fetch(FILE, target)
    assert len(pauses) == ATTEMPTS - 1
    assert partial(target).stat().st_size == 10 * ATTEMPTS
    assert not target.exists()


def test_a_busy_hub_is_asked_again(
    server: HubServer, hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    server.statuses.extend([503, 429])
    assert hub.fetch(FILE, tmp_path / "w") == SHA256
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(("status", "said"), [(404, "has no hf://kyutai"), (410, "answers 410")])
def test_what_isn_t_there_is_said_at_once(
    server: HubServer, hub: Hub, pauses: list[float], tmp_path: Path, status: int, said: str
) -> None:
    server.statuses.append(status)
    with pytest.raises(FetchError, match=said):
        hub.fetch(FILE, tmp_path / "w")
    assert pauses == []


def test_a_hub_without_checksums_is_not_trusted(
    server: HubServer, hub: Hub, tmp_path: Path
) -> None:
    server.described = False
    with pytest.raises(FetchError, match="no size and checksum"):
        hub.fetch(FILE, tmp_path / "w")


def test_too_little_room_is_said_before_anything_is_written(
    server: HubServer, tmp_path: Path
) -> None:
    client = Hub(server.url, free=lambda _: SPARE + 1000)
    with pytest.raises(FetchError, match="needs 1 MB more in .* where 67 MB are free"):
        client.fetch(FILE, tmp_path / "w")
    client.close()
    assert server.sent() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_said(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "w"
    partial(target).symlink_to("/dev/full")
    with pytest.raises(FetchError, match="no space left in .*make room"):
        hub.fetch(FILE, target)


def test_nobody_there_is_said(tmp_path: Path) -> None:
    client = Hub("http://127.0.0.1:9", sleep=lambda _: None)
    with pytest.raises(FetchError, match="after 5 attempts"):
        client.fetch(FILE, tmp_path / "w")
    client.close()


@pytest.mark.parametrize("url", ["ftp://x", "huggingface.co", ""])
def test_an_address_that_is_no_hub_s_is_refused(url: str) -> None:
    with pytest.raises(FetchError, match="no address such as"):
        Hub(url)


@pytest.mark.parametrize(
    "address",
    ["", "https://x/y", "hf://a/b", "hf://a/b/../c@d", "hf://a/b/c/../../d", "hf://a/b/c@d@e"],
)
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(FetchError, match="no address such as"):
        HubFile.parse(address)


def test_an_address_is_taken_apart() -> None:
    file = HubFile.parse("hf://kyutai/pocket-tts/a/b.safetensors@12ab")
    assert file == HubFile("kyutai/pocket-tts", "a/b.safetensors", "12ab")
    assert str(file) == "hf://kyutai/pocket-tts/a/b.safetensors@12ab"
    assert file.url("https://h/") == "https://h/kyutai/pocket-tts/resolve/12ab/a/b.safetensors"
    assert HubFile.parse("hf://a/b/c").revision == "main"
