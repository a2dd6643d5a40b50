"""JUnit files that readers of JUnit files can read."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from load_results import completed, run_of, sample_run, unanswered

from ringtrue.loadtest.junit import junit
from ringtrue.loadtest.results import Outcome
from ringtrue.loadtest.slo import default_slo, judge


def test_a_case_per_call_expectation_and_limit() -> None:
    result = sample_run()
    verdicts = judge(result, default_slo())
    root = ET.fromstring(junit(result, verdicts))
    calls, limits = root.findall("testsuite")
    judged = sum(len(call.expectations) for call in result.calls)
    assert int(calls.get("tests", 0)) == len(result.calls) + judged == len(list(calls))
    broken = sum(not v.ok for v in verdicts)
    assert (int(limits.get("tests", 0)), int(limits.get("failures", 0))) == (len(verdicts), broken)
    missed = sum(len(call.failed_expectations) for call in result.calls)
    assert int(calls.get("failures", 0)) == missed + 3
    assert int(root.get("failures", 0)) == missed + 3 + broken
    texts = {failure.get("type"): failure.text for failure in calls.iter("failure")}
    assert texts["refused"] == "503 Service Unavailable"
    assert "<script>" in (texts["failed"] or "")


def test_a_limit_that_was_not_measured_is_skipped() -> None:
    result = run_of([completed("a", [300.0])])
    root = ET.fromstring(junit(result, judge(result, default_slo())))
    skipped = [
        case.get("name") for case in root.iter("testcase") if case.find("skipped") is not None
    ]
    assert skipped == ["ttfa_ms.p95", "barge_in_stop_ms.p95", "expectations.met"]
    assert root.get("skipped") == "3"


def test_text_that_xml_cannot_hold() -> None:
    call = completed(
        "a", [], outcome=Outcome.FAILED, detail="\x00\x1b[31m <&\"'> \ud800 \ufffe \U0001f4de ü"
    )
    root = ET.fromstring(junit(run_of([call, unanswered("b")]), ()))
    texts = [failure.text for failure in root.iter("failure")]
    assert texts == ["��[31m <&\"'> � � \U0001f4de ü", "no answer within 10 s"]
