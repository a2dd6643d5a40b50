"""An agent: who answers, in which voice, what it may do and, without a model, what it says.

One YAML file per agent; :func:`load_agent` reads it, :func:`load_agents` a directory of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ringtrue.config.agent_dialogue import (
    BUILT_IN,
    Action,
    Checker,
    DialogueFile,
    GiveUp,
    Name,
    Part,
    Text,
    Texts,
    TransferAction,
    spoken_problems,
    template_problems,
    unmarked_problems,
)
from ringtrue.config.agent_disclosure import (
    LOCALES,
    DisclosureFile,
    DisclosureTexts,
    Organisation,
    disclosure_problems,
    texts_of,
)
from ringtrue.config.agent_openers import openers_of, waiting_of
from ringtrue.config.agent_transfers import (
    TransferPolicy,
    TransferTarget,
    transfer_problems,
)
from ringtrue.config.agent_turns import IdleFile, turn_words
from ringtrue.config.agent_voicemail import VoicemailFile
from ringtrue.config.agent_words import vocabulary_of
from ringtrue.config.errors import ConfigError, Problem, SettingsError
from ringtrue.config.layers import parse_yaml
from ringtrue.config.recording_problems import recording_problems
from ringtrue.config.recording_settings import RecordingFile


class AgentError(ConfigError):
    """An agent's file can't be used; every problem in it is listed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep ``problems`` and print each on a line of its own."""
        self.problems = tuple(problems)
        super().__init__("\n  ".join(["the agent can't be used:", *map(str, self.problems)]))


class _InconsistentError(ValueError):
    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in problems))
        self.problems = problems


class StallPolicy(Part):
    """What the caller hears instead of silence when the language model fails."""

    filler: Annotated[Texts, Field(min_length=1)] = ("One moment, please.",)
    """Said while the model is asked once more."""

    apology: Annotated[Texts, Field(min_length=1)] = (
        "I'm sorry, something went wrong on my side. Could you say that again?",
    )
    """Said when the caller has to go on."""

    waiting: Texts | None = None
    """Said in place of silence while an answer is still to come; None: the language's own."""

    retry: bool = True
    """Ask the model once more when the first answer to a turn doesn't come."""

    give_up_after: Annotated[int, Field(ge=1, le=10)] = 2
    """Failures in a row after which ``give_up`` happens."""

    give_up: GiveUp = GiveUp(
        say=("I'm sorry, I'm having technical trouble. Please call again later. Goodbye.",)
    )


class Agent(Part):
    """Everything an agent is made of."""

    name: Name
    title: Text
    description: str = ""
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    voice: Annotated[str, Field(min_length=1, max_length=80)] = "slt"
    """A voice of the synthesizer (embedded: slt, awb, rms), or name or id of a cloned voice."""

    fallback_voice: Literal["slt", "awb", "rms"] = "slt"
    """Speaks where no consent lets the cloned voice speak, and takes over from it."""

    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] = (
        "default"
    )
    """Whose cloned voices it may speak with."""

    purpose: Annotated[str, Field(min_length=1, max_length=160)] | None = None
    """What it uses a cloned voice for, in the words its speaker consented to."""

    organisation: Organisation | None = None
    """For whom it speaks, as callers are told; may hold placeholders. None: its title."""

    greeting: Annotated[Texts, Field(min_length=1)]
    """What follows the disclosure in a call's first words, or holds it where :attr:`disclosure`
    declares that. Like every text that is spoken they may hold the markup of
    :mod:`ringtrue.config.speech_markup`."""

    disclosure: DisclosureFile = DisclosureFile()
    """How callers are told that they talk to an AI."""

    recording: RecordingFile = RecordingFile()
    """Whether its calls are recorded; callers are told so with their first words."""

    prompt: str = ""
    """System prompt of a language model, where one is configured."""

    phrases: Texts = ()
    """What callers may say besides the dialogue's examples, for the recognizer."""

    variables: dict[Name, str] = {}
    """Placeholders of the texts; a call may bring its own values."""

    transfers: dict[Name, TransferTarget] = {}
    """The only places this agent may transfer to."""

    transferring: TransferPolicy = TransferPolicy()
    stalls: StallPolicy = StallPolicy()
    openers: Texts | None = None
    """A few words each, said where an answer would be late; None: the language's own."""

    voicemail: VoicemailFile = VoicemailFile()
    """What is done where a machine answers a call that it placed."""

    idle: IdleFile = IdleFile()
    """What is said to callers who say nothing."""

    dialogue: DialogueFile | None = None
    """Needed by the embedded dialogue; a language model does without."""

    @field_validator("voice", "purpose")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or value != value.strip()):
            raise ValueError("holds what can't be printed, or begins or ends with a space")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Agent:
        known = {*self.variables, *BUILT_IN}
        problems: list[tuple[str, str]] = []
        for key, texts in (
            ("greeting", self.greeting),
            ("organisation", (self.organisation or "",)),
            ("stalls.filler", self.stalls.filler),
            ("stalls.apology", self.stalls.apology),
            ("stalls.waiting", self.stalls.waiting or ()),
            ("stalls.give_up.say", self.stalls.give_up.say),
            ("idle.still_there", self.idle.still_there),
            ("idle.can_you_hear", self.idle.can_you_hear),
            ("idle.goodbye", self.idle.goodbye),
            ("openers", self.openers or ()),
            ("voicemail.message", (self.voicemail.message or "",)),
        ):
            problems += spoken_problems(key, texts, known)
        problems += transfer_problems(
            self.transferring, self.transfers, {*self.variables}, self.language
        )
        problems += template_problems("prompt", (self.prompt,), known)
        problems += disclosure_problems(self._told(), self.language, self.greeting, known)
        problems += recording_problems(self.recording, self.disclosure, self.dialogue)
        problems += unmarked_problems("phrases", self.phrases)
        for name, value in self.variables.items():
            problems += spoken_problems(f"variables.{name}", (value,), None)
        action = self.stalls.give_up.action
        if isinstance(action, TransferAction) and action.transfer not in self.transfers:
            choices = ", ".join(sorted(self.transfers)) or "none defined"
            problems.append(
                (
                    "stalls.give_up.action.transfer",
                    f"is {action.transfer!r}; transfers: {choices}",
                )
            )
        if self.dialogue is not None:
            checker = Checker(self.dialogue, self.transfers, self.variables)
            problems += [(f"dialogue.{key}", message) for key, message in checker.run()]
        if problems:
            raise _InconsistentError(problems)
        return self

    def vocabulary(self) -> tuple[str, ...]:
        """What callers may say, for the recognizer's domain language model: examples with their
        slots filled in, answers to the agent's questions, yes and no, :attr:`phrases`, the
        question whether they talk to a person, and what listeners say."""
        own = LOCALES.get(self.language.partition("-")[0])
        briefing = self.transferring.briefing
        attended = any(target.how != "blind" for target in self.transfers.values())
        answers = (*briefing.yes, *briefing.no) if attended else ()
        asked = (*answers, *self.disclosure.questions, *(own.questions if own else ()))
        heard = turn_words(self.language).heard if own else ()
        return vocabulary_of(self.dialogue, (*self.phrases, *asked, *heard))

    def openings(self) -> tuple[str, ...]:
        """The first words of a call, disclosure and all, one for each greeting; placeholders stay
        in them."""
        texts = self.disclosed()
        before = "" if texts.in_greeting else f"{texts.opening} {texts.recording}"
        after = texts.recording if texts.in_greeting else ""
        return tuple(" ".join(f"{before} {one} {after}".split()) for one in self.greeting)

    def fillers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Its openers, and what it says while a caller waits; placeholders stay in them."""
        openers = openers_of(self.language) if self.openers is None else self.openers
        own = self.stalls.waiting
        return openers, waiting_of(self.language) if own is None else own

    def disclosed(self) -> DisclosureTexts:
        """What it says about itself; the agent's own placeholders stay in the texts."""
        return texts_of(self._told(), self.language, self.organisation or self.title)

    def _told(self) -> DisclosureFile:
        """The disclosure, with the notice of calls that are recorded."""
        if not self.recording.enabled:
            return self.disclosure
        return self.disclosure.model_copy(update={"recorded": True})


def load_agent(path: Path) -> Agent:
    """Read one agent's file.

    Raises :class:`AgentError` naming the file and, for each problem, the key, the value and what
    is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise AgentError([Problem("", f"can't be read: {reason}", str(path))]) from None
    return parse_agent(text, str(path))


def parse_agent(text: str, source: str) -> Agent:
    """The same from text; ``source`` names it in errors."""
    try:
        data = parse_yaml(text, source)
    except SettingsError as error:
        raise AgentError(error.problems) from None
    try:
        return Agent.model_validate(data)
    except ValidationError as error:
        raise AgentError(_problems(error, data, source)) from None


def shipped_agents() -> Path:
    """The directory of the agents that come with the package."""
    return Path(str(resources.files("ringtrue.config"))) / "agents"


def load_agents(directory: Path | None = None) -> dict[str, Agent]:
    """Every ``*.yaml`` in ``directory`` (default: :func:`shipped_agents`), by the agent's name.

    Raises :class:`AgentError` also where two files give the same name or there are none.
    """
    directory = directory or shipped_agents()
    agents: dict[str, Agent] = {}
    for path in sorted(directory.glob("*.yaml")):
        agent = load_agent(path)
        if agent.name in agents:
            raise AgentError(
                [Problem("name", f"is {agent.name!r}, which another file has too", str(path))]
            )
        agents[agent.name] = agent
    if not agents:
        raise AgentError([Problem("", "has no *.yaml: no agent to answer with", str(directory))])
    return agents


def _problems(error: ValidationError, data: Mapping[str, Any], source: str) -> list[Problem]:
    problems = []
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, _InconsistentError):
            problems += [Problem(key, message, source) for key, message in cause.problems]
            continue
        path = _path(item["loc"], data)
        if item["type"] == "extra_forbidden":
            fields = _fields_at(path[:-1], data)
            message = f"unknown key; allowed: {', '.join(fields) or 'nothing'}"
        elif item["type"] == "missing":
            message = "must be given"
        elif isinstance(cause, ValueError) and isinstance(item["input"], Mapping):
            message = str(cause)
        else:
            message = f"is {_shown(item['input'])}; {_lowered(item['msg'])}"
        problems.append(Problem(".".join(map(str, path)), message, source))
    return problems


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _path(loc: tuple[int | str, ...], data: object) -> list[int | str]:
    """Pydantic's location without the tags of union members."""
    path: list[int | str] = []
    node: Any = data
    for index, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        if isinstance(node, list | tuple) and isinstance(part, int):
            inside = part < len(node)
        if inside:
            node = node[part]
        elif index < len(loc) - 1 or not isinstance(node, Mapping):
            continue
        path.append(part)
    return path


def _fields_at(path: list[int | str], data: object) -> list[str]:
    """Fields of the model that the mapping at ``path`` is checked against."""
    annotation: Any = Agent
    node: Any = data
    for part in path:
        model = _model(annotation, node)
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
        else:
            inner = [a for member in _members(annotation) for a in get_args(member)]
            annotation = inner[-1] if inner else None
        node = node[part]
    model = _model(annotation, node)
    return list(model.model_fields) if model is not None else []


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [member for arg in get_args(annotation) for member in _members(arg)]
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    return [annotation]


def _model(annotation: Any, node: object) -> type[BaseModel] | None:
    models = [m for m in _members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
    if len(models) > 1 and isinstance(node, Mapping):
        for model in models:
            field = model.model_fields.get("type")
            if field is not None and node.get("type") in get_args(field.annotation):
                return model
        return None
    return models[0] if models else None


__all__ = [
    "Action",
    "Agent",
    "AgentError",
    "StallPolicy",
    "TransferAction",
    "TransferPolicy",
    "TransferTarget",
    "load_agent",
    "load_agents",
    "parse_agent",
    "shipped_agents",
]
