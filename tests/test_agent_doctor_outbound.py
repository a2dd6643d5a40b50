"""What the doctor says of placed calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtrue.agent.doctor import run_checks
from ringtrue.agent.doctor_outbound import OUTBOUND_CHECKS
from ringtrue.agent.findings import Check, State
from ringtrue.config.settings import load_settings

ON = {
    "RINGTRUE_OUTBOUND__ENABLED": "true",
    "RINGTRUE_OUTBOUND__TENANTS__DEFAULT__COUNTRIES": "US",
}
TRUNK = {"RINGTRUE_OUTBOUND__TRUNKS__MAIN__URI": "sip:carrier.example.com"}


def found(tmp_path: Path, **environ: str) -> Check:
    usage = {"RINGTRUE_OUTBOUND__USAGE_FILE": str(tmp_path / "usage.json")}
    (check,) = run_checks(load_settings(environ=usage | environ), OUTBOUND_CHECKS)
    return check


@pytest.mark.parametrize(
    ("environ", "state", "words"),
    [
        ({}, State.OK, "off"),
        (ON | TRUNK, State.OK, "1 tenants, 1 trunks"),
        (ON, State.DEGRADED, "no trunk for the numbers of default"),
        (ON | {"RINGTRUE_SIP__ENABLED": "false"}, State.MISSING, "sip.enabled"),
        (
            ON | TRUNK | {"RINGTRUE_OUTBOUND__TRUNKS__MAIN__ACCOUNT": "x"},
            State.MISSING,
            "sip.registrations: none",
        ),
    ],
)
def test_outbound_calls(tmp_path: Path, environ: dict[str, str], state: State, words: str) -> None:
    check = found(tmp_path, **environ)
    assert check.state is state
    assert words in check.detail
    assert (state is State.OK) == (not check.cost and not check.remedy)


def test_a_usage_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_text("nonsense")
    check = found(tmp_path, **ON, **TRUNK)
    assert check.state is State.MISSING
    assert "usage.json" in check.detail
