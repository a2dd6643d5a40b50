"""The witness on the same machine: what it keeps, refuses, and finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from audit_logs import KEYS, add, moment, opened, said
from cloned_server import cloned_server

from ringtrue.agent.audit.entries import Event, Kind
from ringtrue.agent.audit.errors import WitnessError
from ringtrue.agent.audit.local_witness import LocalWitness
from ringtrue.agent.audit.opening import audit_dir, local_witness, open_audit
from ringtrue.agent.audit.verifying import verify
from ringtrue.config.errors import SettingsError
from ringtrue.config.settings import load_settings


def grown(directory: Path, witness: LocalWitness, seconds: float, word: int) -> None:
    """A log gone on with, whose checkpoints the witness takes."""
    writer = opened(directory, seconds, on_checkpoint=witness.take)
    add(writer, [said(word)], seconds + 1)
    writer.close(moment(seconds + 2))


def test_it_keeps_the_newest_note_and_finds_a_log_put_back(tmp_path: Path) -> None:
    directory, earlier = tmp_path / "log", tmp_path / "earlier"
    witness = LocalWitness(tmp_path / "elsewhere", directory)
    assert witness.notes() == []
    grown(directory, witness, 0, 1)
    shutil.copytree(directory, earlier)
    grown(directory, witness, 10, 2)
    assert len(witness.notes()) == 1
    assert verify(directory, KEYS, witness=witness.notes()).problems == []
    # An earlier state, each line of which is signed …
    shutil.rmtree(directory)
    earlier.rename(directory)
    assert verify(directory, KEYS).good
    (problem,) = verify(directory, KEYS, witness=witness.notes()).problems
    assert "cut back" in problem.what
    # … is not taken when it is gone on with, and found for ever after.
    with pytest.raises(WitnessError, match="it was cut back, or an older state restored"):
        grown(directory, witness, 20, 3)
    grown(directory, LocalWitness(tmp_path / "nowhere", directory), 30, 4)
    assert verify(directory, KEYS).good
    (problem,) = verify(directory, KEYS, witness=witness.notes()).problems
    assert "not those it knows" in problem.what


def test_a_log_of_other_entries_is_not_taken(tmp_path: Path) -> None:
    one, other = ([], [])  # type: tuple[list[str], list[str]]
    for name, notes, word in (("one", one, 1), ("other", other, 2)):
        writer = opened(tmp_path / name, on_checkpoint=notes.append)
        add(writer, [said(word)], 1)
        writer.close(moment(2))
    witness = LocalWitness(tmp_path / "w", tmp_path / "one")
    origin = one[-1].split("\n")[0]
    witness.take(one[-1])
    witness.take(one[-1])  # told again
    with pytest.raises(WitnessError, match="with other entries"):
        witness.take("\n".join([origin, *other[-1].split("\n")[1:]]))
    with pytest.raises(WitnessError, match="no checkpoint"):
        witness.take("nothing")
    assert witness.notes() == one[-1:]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"logs": 3}', '{"logs": null}'])
def test_an_altered_file_is_told_and_kept(tmp_path: Path, content: str) -> None:
    witness = LocalWitness(tmp_path / "w", tmp_path / "log")
    grown(tmp_path / "log", witness, 0, 1)
    witness.path.write_text(content)
    with pytest.raises(WitnessError, match="altered"):
        witness.notes()
    with pytest.raises(WitnessError, match="altered"):
        grown(tmp_path / "log", witness, 10, 2)
    assert witness.path.read_text() == content


def test_where_it_is(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    witness = local_witness(load_settings(environ={}), environ)
    assert witness is not None
    assert witness.path.parent == tmp_path / "ringtrue" / "witness"
    for setting, expected in (("off", None), ("/mnt/w", "/mnt/w")):
        settings = load_settings(environ={"RINGTRUE_AUDIT__LOCAL_WITNESS": setting})
        witness = local_witness(settings, environ)
        assert (None if witness is None else str(witness.path.parent)) == expected
    with pytest.raises(SettingsError, match="neither auto, off nor an absolute path"):
        load_settings(environ={"RINGTRUE_AUDIT__LOCAL_WITNESS": "here"})


async def test_a_server_and_the_command_find_it_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cloned_server(tmp_path, monkeypatch)
    directory, earlier = audit_dir(place.settings), tmp_path / "earlier"

    async def record() -> str | None:
        async with open_audit(place.settings) as log:
            log.record(Event(Kind.LOGIN, requester="ops"))
        return log.witness_fault

    assert await record() is None
    shutil.copytree(directory, earlier)
    assert await record() is None
    assert (await place.run("audit", "verify")).code == 0
    shutil.rmtree(directory)
    shutil.copytree(earlier, directory)
    ran = await place.run("audit", "verify")
    assert ran.code == 1
    assert "cut back" in ran.out
    witness = local_witness(place.settings)
    assert witness is not None
    assert str(witness.path) in ran.out.replace("\n", "")
    assert json.loads(witness.path.read_text())["directory"] == str(directory)
    fault = await record()
    assert fault is not None
    assert "cut back" in fault
