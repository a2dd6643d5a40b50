"""The log keeps words, numbers and audio out, whoever writes them."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger as loguru_logger
from pipecat.frames.frames import TTSSpeakFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService

from ringtrue.agent.logs import (
    WITHHELD,
    configure_logs,
    describe_error,
    log_loop_error,
    masked,
    scrubbed,
    template,
)
from ringtrue.config.settings import LoggingSettings
from ringtrue.streaming.errors import RecognizerError

WORDS = "my card number is four one one one"
NUMBER = "+49 151 2345-6789"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    out = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    configure_logs(LoggingSettings(level="DEBUG", format="json"), stream=out)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    structlog.reset_defaults()
    loguru_logger.remove()
    loguru_logger.add(sys.stderr, level="WARNING")
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_of_ours(lines: Lines) -> None:
    structlog.get_logger("ringtrue.test").info("call.answered", call="c1", transport="sip", ms=3.5)
    (line,) = lines()
    assert line["event"] == "call.answered"
    assert line["logger"] == "ringtrue.test"
    assert line["level"] == "info"
    assert (line["call"], line["transport"], line["ms"]) == ("c1", "sip", 3.5)
    assert line["timestamp"].endswith("Z")


def test_fields_that_hold_speech_digits_or_secrets_are_withheld(lines: Lines) -> None:
    structlog.get_logger("t").warning(
        "x",
        text=WORDS,
        transcript=[WORDS],
        messages={"role": WORDS},
        pcm=b"\x00" * 320,
        digits=4111,
        stream_token="abcdef",
        nested={"deep": {"phrase": WORDS, "audio": b"abc", "api_key": "abcdef"}},
        words=12,
    )
    (line,) = lines()
    raw = json.dumps(line)
    assert WORDS not in raw
    assert "4111" not in raw
    assert "abcdef" not in raw
    assert line["pcm"] == "[320 bytes]"
    assert line["nested"]["deep"]["audio"] == "[3 bytes]"
    assert line["words"] == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call from +4915123456789 now", "call from ***89 now"),
        (f"<{NUMBER}>", "<***89>"),
        ("(030) 1234-5678", "***78"),
        (
            "sip:+4915123456789@host.test:5060;transport=udp",
            "sip:***89@host.test:5060;transport=udp",
        ),
        ("sips:alice@host.test", "sips:***ce@host.test"),
        ("tel:911234567", "tel:***67"),
        ("192.168.100.200", "192.168.100.200"),
        ("ports 5060 and 20000", "ports 5060 and 20000"),
        ("3 of 12 in 1200 ms", "3 of 12 in 1200 ms"),
        ("pocketsphinx 5.1.1", "pocketsphinx 5.1.1"),
    ],
)
def test_telephone_numbers_keep_two_digits(text: str, expected: str) -> None:
    assert scrubbed(text) == expected


@given(st.text(alphabet="0123456789", min_size=7, max_size=15), st.sampled_from(["", "+", "00"]))
def test_no_number_survives_in_any_field(digits: str, prefix: str) -> None:
    assert digits not in scrubbed(f"dialled {prefix}{digits}.")
    assert digits not in scrubbed(f"sip:{prefix}{digits}@10.0.0.1")
    assert digits not in masked(prefix + digits)


@pytest.mark.parametrize(
    ("party", "expected"),
    [
        ("+4915123456789", "***89"),
        ("sip:alice@host.test", "sip:***ce@host.test"),
        ("alice@host.test", "***ce@host.test"),
        ("tel:+4912345", "tel:***45"),
        ("", "***"),
    ],
)
def test_masked_parties(party: str, expected: str) -> None:
    assert masked(party) == expected


async def test_pipecat_s_wire_messages_stay_out(lines: Lines) -> None:
    for serializer in (
        TwilioFrameSerializer("MZ1", params=TwilioFrameSerializer.InputParams(auto_hang_up=False)),
        PlivoFrameSerializer("s1", params=PlivoFrameSerializer.InputParams(auto_hang_up=False)),
    ):
        await serializer.deserialize(f'{{"transcript": "{WORDS}", "from": "{NUMBER}"')
    found = lines()
    assert [line["event"] for line in found] == ["Failed to parse JSON message: {data}"] * 2
    assert found[0]["logger"] == "pipecat.serializers.twilio"
    assert found[0]["at"].startswith("pipecat/serializers/twilio.py:")
    assert WORDS not in json.dumps(found)
    assert "6789" not in json.dumps(found)


async def test_pipecat_s_contexts_and_errors_stay_out(lines: Lines) -> None:
    service = OpenAILLMService(
        api_key="sk-hunter2",
        base_url="http://127.0.0.1:9/v1",
        settings=OpenAILLMService.Settings(model="m", system_instruction=WORDS),
    )
    context = LLMContext(messages=[{"role": "user", "content": WORDS}])
    with pytest.raises(Exception, match="Connection"):
        await service.run_inference(context)
    processor = FrameProcessor(name="p")
    await processor.push_error(WORDS, exception=ValueError(WORDS))
    await processor.push_frame(TTSSpeakFrame(WORDS))
    found = lines()
    assert found
    assert WORDS not in json.dumps(found)
    assert "hunter2" not in json.dumps(found)
    await service._client.close()


def test_loguru_below_warning_is_dropped_and_above_shows_its_template(lines: Lines) -> None:
    who = WORDS
    loguru_logger.info(f"transcript: {who}")
    loguru_logger.debug(who)
    loguru_logger.warning(f"odd transcript: {who!r} of {len(who)} letters")
    loguru_logger.warning("formatted later: {}", who)
    loguru_logger.error(who)
    loguru_logger.error(
        f"over lines (with a bracket): {who} "
        f"and {'inner (' + who + ')'}"
    )  # fmt: skip
    assert [line["event"] for line in lines()] == [
        "odd transcript: {who} of {len(who)} letters",
        "formatted later: {}",
        WITHHELD,
        "over lines (with a bracket): {who} and {'inner (' + who + ')'}",
    ]


def test_logging_shows_templates_only(lines: Lines) -> None:
    other = logging.getLogger("some.library")
    other.info("said %s", WORDS)
    other.warning("said %s at %d", WORDS, 3)
    other.error("said " + WORDS)
    try:
        raise ValueError(WORDS)
    except ValueError:
        other.exception("failed")
    found = lines()
    assert [line["event"] for line in found] == ["said %s at %d", "said ", "failed"]
    assert found[2]["error"] == "ValueError"
    assert found[2]["stack"][0].endswith("test_logging_shows_templates_only")
    assert WORDS not in json.dumps(found)


def test_exceptions_show_type_and_stack_and_only_our_own_reason(lines: Lines) -> None:
    log = structlog.get_logger("t")
    try:
        try:
            raise KeyError(WORDS)
        except KeyError as error:
            raise RecognizerError(f"no model for {NUMBER}") from error
    except RecognizerError:
        log.exception("stt.failed")
    log.error("os", error=OSError(98, "Address already in use"))
    log.error("value", error=ValueError(WORDS))
    first, second, third = lines()
    assert first["error"] == "RecognizerError: no model for ***89"
    assert first["cause"] == "KeyError"
    assert "exc_info" not in first
    assert second["error"] == "OSError: Address already in use"
    assert third["error"] == "ValueError"


def test_exceptions_on_the_console(lines: Lines) -> None:
    out = io.StringIO()
    configure_logs(LoggingSettings(format="console"), stream=out)
    try:
        raise ValueError(WORDS)
    except ValueError as error:
        structlog.get_logger("t").error("x.failed", exc_info=error)
    said = out.getvalue()
    assert "x.failed" in said
    assert "ValueError" in said
    assert "test_exceptions_on_the_console" in said
    assert WORDS not in said


async def test_loop_errors(lines: Lines) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    context = {"message": "Task exception was never retrieved", "exception": ValueError(WORDS)}
    loop.call_exception_handler(context)
    loop.call_exception_handler({"message": WORDS})
    loop.set_exception_handler(None)
    known, other = lines()
    assert known["reason"] == "Task exception was never retrieved"
    assert known["error"] == "ValueError"
    assert other["reason"] == WITHHELD


def test_the_level_applies_to_our_own_events() -> None:
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(LoggingSettings(level="WARNING", format="console"), stream=out)
    structlog.get_logger("t").info("quiet")
    structlog.get_logger("t").warning("loud", text=WORDS)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    loguru_logger.remove()
    assert "quiet" not in out.getvalue()
    assert "loud" in out.getvalue()
    assert WORDS not in out.getvalue()


class Refusing(io.StringIO):
    """A pipe whose reader is gone, for as long as it is."""

    gone = True

    def write(self, text: str) -> int:
        if self.gone:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


def test_a_log_that_cannot_be_written_stops_nothing_and_tells_how_much_is_missing() -> None:
    out = Refusing()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(LoggingSettings(level="INFO", format="json"), stream=out)
    try:
        log = structlog.get_logger("ringtrue.test")
        log.info("call.answered")
        structlog.get_logger("ringtrue.other").error("call.failed")
        logging.getLogger("elsewhere").warning("odd")
        out.gone = False
        log.info("call.answered")
        log.info("call.ended")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        loguru_logger.remove()
    answered, ended = (json.loads(line) for line in out.getvalue().splitlines())
    assert (answered["event"], answered["lines_lost"]) == ("call.answered", 3)
    assert ended["event"] == "call.ended"
    assert "lines_lost" not in ended


def test_no_source_no_template(tmp_path: Path) -> None:
    assert template(str(tmp_path / "gone.py"), 3) is None
    odd = tmp_path / "odd.py"
    odd.write_text("x = 1\nlog.warning(\n")
    assert template(str(odd), 1) is None
    assert template(str(odd), 2) is None


def test_errors_describe_their_stack_from_packages() -> None:
    def fail() -> None:
        raise RuntimeError(WORDS)

    with pytest.raises(RuntimeError) as caught:
        fail()
    described = describe_error(caught.value)
    assert described["error"] == "RuntimeError"
    assert described["stack"][-1].endswith(" fail")
