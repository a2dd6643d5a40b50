"""The log: our events as JSON or console lines, other libraries' warnings without their values.

No caller's words, numbers or audio reach it, by construction rather than by care:

- Our own events are fields. Fields whose names hold speech, digits or secrets are withheld,
  bytes become their length, and anything like a telephone number keeps its last two digits.
- Other libraries (Pipecat through loguru, everything else through ``logging``) write transcripts,
  LLM contexts and wire messages into their texts. Of theirs only WARNING and above is kept, and
  of each record only the *template* the source code shows, ``Invalid JSON message: {message}``,
  never what was filled in.
- Of an exception the log shows type and stack; its text only where it is our own kind, which by
  contract holds none of the above, or an ``OSError``'s.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import io
import linecache
import logging
import re
import sys
import tokenize
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from loguru import logger as loguru_logger

from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import LoggingSettings
from ringtrue.streaming.errors import RingtrueError

if TYPE_CHECKING:
    from loguru import Message

WITHHELD: Final = "[withheld]"

SPEECH_FIELDS: Final = re.compile(
    r"^(texts?|transcripts?|transcriptions?|words?|phrases?|prompts?|contents?|context|messages?"
    r"|said|heard|answers?|audio|pcm|payload|body|sdp)$",
    re.IGNORECASE,
)
"""Names of fields that would hold speech; a bare number under them is a count and is kept."""

SECRET_FIELDS: Final = re.compile(
    r"^(digits?|dtmf|authorization|credentials?|(.*_)?(token|secret|api_key|auth|password))$",
    re.IGNORECASE,
)
"""Names of fields that would hold keyed digits or secrets, whatever their type."""

KEPT_FIELDS: Final = frozenset({"call", "call_id", "event", "level", "logger", "timestamp"})
"""Fields of our own making, in which digits are no telephone number."""

_URI_USER: Final = re.compile(r"\b(sips?|tel):([^@\s;>,]+)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"(?<![\w.:])\+?\(?\d(?:[\s().\-]{0,2}\d){5,}(?![\w:])")
_PARTY: Final = re.compile(r"(sips?:|tel:|)([^@]*)(.*)", re.IGNORECASE | re.DOTALL)
_IPV4: Final = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")

_MAX_TEXT: Final = 500
_MAX_DEPTH: Final = 4
_MAX_FRAMES: Final = 12
_MAX_CALL_LINES: Final = 25

_LOG_CALL: Final = re.compile(r"\.(?:warning|warn|error|exception|critical)\(")
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


_LOOP_MESSAGES: Final = ("Task ", "Future ", "Unhandled ", "Fatal ", "Exception in callback")


def masked(party: str) -> str:
    """A telephone number or URI of which only the last two characters of the user remain."""
    match = _PARTY.match(party)
    scheme, user, host = match.groups() if match else ("", party, "")
    return f"{scheme}***{user[-2:]}{host}"


def scrubbed(text: str) -> str:
    """``text`` with URI users and telephone numbers masked, and cut to a sane length."""

    def number(match: re.Match[str]) -> str:
        found = match.group()
        return found if _IPV4.fullmatch(found) else f"***{found[-2:]}"

    text = _URI_USER.sub(lambda m: f"{m.group(1)}:***{m.group(2)[-2:]}", text)
    text = _NUMBER.sub(number, text)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def _clean(key: str, value: Any, depth: int = 0) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if SECRET_FIELDS.match(key):
        return WITHHELD
    if value is None or isinstance(value, bool | int | float):
        return value
    if SPEECH_FIELDS.match(key) or depth >= _MAX_DEPTH:
        return WITHHELD
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}{_reason(value)}"
    return scrubbed(str(value))


def scrub(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Processor: clean every field that is not of our own making."""
    return {
        key: value if key in KEPT_FIELDS or key == "exc_info" else _clean(key, value)
        for key, value in event.items()
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, RingtrueError | ConfigError):
        return f": {scrubbed(str(error))}"
    if isinstance(error, OSError) and error.strerror:
        return f": {error.strerror}"
    return ""


def describe_error(error: BaseException) -> dict[str, Any]:
    """Type, permitted reason, cause and stack (file:line function) of an exception."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    described: dict[str, Any] = {
        "error": f"{type(error).__name__}{_reason(error)}",
        "stack": [f"{f.filename.split('/site-packages/')[-1]}:{f.lineno} {f.name}" for f in frames],
    }
    if error.__cause__ is not None:
        described["cause"] = f"{type(error.__cause__).__name__}{_reason(error.__cause__)}"
    return described


def explain_exceptions(
    _: Any, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Processor: replace ``exc_info`` by what may be said of it."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.update(describe_error(error))
    return event


def _stack_as_text(
    _: Any, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Processor: frames one a line, as the console renderer takes them."""
    if isinstance(event.get("stack"), list):
        event["stack"] = "\n".join(f"  {frame}" for frame in event["stack"])
    return event


@functools.lru_cache(maxsize=1024)
def template(path: str, line: int) -> str | None:
    """The text of the logging call at ``line`` as the source shows it, expressions in braces.

    None where there is no source, or no text in the call. Reads the few lines of the call only:
    parsing a whole module would hold up the media clock.
    """
    source = "".join(linecache.getlines(path)[line - 1 : line - 1 + _MAX_CALL_LINES])
    called = _LOG_CALL.search(source.split("\n", 1)[0])
    if called is None:
        return None
    source = source[called.end() - 1 :]
    depth, end = 0, (0, 0)
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            depth += (token.string in _OPEN) - (token.string in _CLOSE)
            if depth == 0:
                end = token.end
                break
        lines = source.splitlines(keepends=True)[: end[0]]
        lines[-1] = lines[-1][: end[1]]
        call = ast.parse(f"_{''.join(lines)}", mode="eval").body
    except (tokenize.TokenError, SyntaxError, ValueError, IndexError):
        return None
    return _literal(call.args[0]) if isinstance(call, ast.Call) and call.args else None


def _literal(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [
            str(part.value) if isinstance(part, ast.Constant) else f"{{{_expression(part)}}}"
            for part in node.values
        ]
        return "".join(parts)
    if isinstance(node, ast.BinOp):
        return _literal(node.left)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _literal(node.func.value) if node.func.attr == "format" else None
    return None


def _expression(part: ast.expr) -> str:
    return ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else "..."


def _foreign(
    name: str, path: str, line: int, error: BaseException | None
) -> tuple[str, dict[str, Any]]:
    """What may be logged of another library's record: its place and its template."""
    text = template(path, line)
    fields: dict[str, Any] = {"logger": name, "at": f"{path.split('/site-packages/')[-1]}:{line}"}
    if error is not None:
        fields |= describe_error(error)
    return (text or WITHHELD), fields


class _Sink:
    """Where lines go. One that can't be written is lost, and counted: no call ends by it.

    A pipe's reader may be gone, a disk may be full.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.lost = 0

    def write(self, line: str) -> None:
        """Write a line, which tells how many were lost before it."""
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):  # ValueError: the file is closed
            self.lost += 1
        else:
            self.lost = 0


class _Named:
    """A logger that knows the module it was made for."""

    def __init__(self, sink: _Sink, name: str) -> None:
        self.sink = sink
        self.name = name

    def msg(self, line: str) -> None:
        """Write a rendered line."""
        self.sink.write(line)

    debug = info = warning = error = critical = msg


def _add_name(logger: Any, _: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.setdefault("logger", getattr(logger, "name", ""))
    if isinstance(logger, _Named) and logger.sink.lost:
        event["lines_lost"] = logger.sink.lost
    return event


class _FromLogging(logging.Handler):
    """Takes ``logging`` records into the same log."""

    def __init__(self, emit: Callable[[str, str, dict[str, Any]], None]) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        """Log place and template."""
        error = record.exc_info[1] if record.exc_info else None
        text, fields = _foreign(record.name, record.pathname, record.lineno, error)
        self._emit(record.levelname.lower(), text, fields)


def configure_logs(settings: LoggingSettings, *, stream: TextIO | None = None) -> None:
    """Send everything this process logs to ``stream`` (default: stderr), from now on.

    Call it before Pipecat is imported, or its greeting has already been printed. The log is the
    process's: a second call replaces the first.
    """
    out = sys.stderr if stream is None else stream
    sink = _Sink(out)
    level = logging.getLevelNamesMapping()[settings.level]
    renderers: list[structlog.typing.Processor]
    if settings.format == "json":
        renderers = [structlog.processors.JSONRenderer()]
    else:
        console = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderers = [_stack_as_text, console]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            explain_exceptions,
            scrub,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: _Named(sink, str(names[0]) if names else ""),
        cache_logger_on_first_use=False,
    )

    foreign = structlog.get_logger("foreign")

    def emit(level_name: str, text: str, fields: dict[str, Any]) -> None:
        method = level_name if level_name in ("warning", "error", "critical") else "warning"
        getattr(foreign, method)(text, **fields)

    def from_loguru(message: Message) -> None:
        record = message.record
        error = record["exception"].value if record["exception"] else None
        text, fields = _foreign(record["name"] or "", record["file"].path, record["line"], error)
        emit(record["level"].name.lower(), text, fields)

    loguru_logger.remove()
    loguru_logger.add(from_loguru, level="WARNING", backtrace=False, diagnose=False)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _FromLogging | logging.StreamHandler):
            root.removeHandler(handler)
    root.addHandler(_FromLogging(emit))
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler for the event loop (``loop.set_exception_handler``)."""
    error = context.get("exception")
    fields = describe_error(error) if isinstance(error, BaseException) else {}
    task = context.get("task") or context.get("future")
    if isinstance(task, asyncio.Task):
        fields["task"] = task.get_name()
    # asyncio's own messages are fixed texts; those of other code may not be.
    known = str(context.get("message", ""))
    reason = known if known.startswith(_LOOP_MESSAGES) else WITHHELD
    structlog.get_logger(__name__).error("loop.error", reason=reason, **fields)
