"""A run as JUnit XML, as continuous integration reads it: a case per expectation and per limit."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

from ringtrue.loadtest.results import MeasuredCall, RunResult
from ringtrue.loadtest.slo import Verdict

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) can't hold, not even escaped."""


def junit(result: RunResult, verdicts: Sequence[Verdict]) -> bytes:
    """Two suites: the calls, and the limits where there are any. UTF-8."""
    root = ET.Element("testsuites", name=_clean(result.scenario))
    calls = _suite(root, f"{result.scenario}: calls", result.duration_s)
    for call in result.calls:
        _call(calls, call)
    if verdicts:
        limits = _suite(root, f"{result.scenario}: limits", 0.0)
        for verdict in verdicts:
            case = _case(limits, "limits", verdict.name, 0.0)
            if not verdict.ok:
                _failed(case, "limit", str(verdict))
            elif not verdict.samples:
                ET.SubElement(case, "skipped", message=_clean(verdict.note))
    for suite in (root, *root):
        cases = list(suite.iter("testcase"))
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
        suite.set("errors", str(sum(case.find("error") is not None for case in cases)))
        suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n".encode()


def _suite(root: ET.Element, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(root, "testsuite", name=_clean(name), time=f"{seconds:.3f}")


def _case(suite: ET.Element, group: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_clean(group), name=_clean(name), time=f"{seconds:.3f}"
    )


def _call(suite: ET.Element, call: MeasuredCall) -> None:
    case = _case(suite, call.id, "completes", call.ended_s - call.started_s)
    if not call.completed:
        _failed(case, str(call.outcome), call.detail or str(call.outcome))
    for expected in call.expectations:
        case = _case(suite, call.id, expected.text, 0.0)
        if not expected.passed:
            _failed(case, expected.name, expected.evidence)


def _failed(case: ET.Element, kind: str, message: str) -> None:
    failure = ET.SubElement(case, "failure", type=_clean(kind), message=_clean(message))
    failure.text = _clean(message)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
