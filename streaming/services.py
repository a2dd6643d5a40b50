"""Any Pipecat ``stt``, ``llm`` or ``tts`` service by name, with its settings checked.

A name is short (``deepgram``: the vendor's service of that kind), ``vendor.Class``
(``deepgram.DeepgramFluxSTTService``), or an import path
(``pipecat.services.deepgram.stt.DeepgramSTTService``, ``my.module:MyService``).

Settings are one flat mapping. A key is a field of the service's ``Settings`` (model, voice,
temperature, ...) or else a parameter of its constructor (api_key, base_url, ...); anything else,
and any value of the wrong type, is a :class:`ServiceError` that says what would be right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.metadata
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pipecat.services.ai_service import AIService
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import ServiceSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from ringtrue.config.problems import is_secret_name
from ringtrue.streaming.errors import RingtrueError
from ringtrue.streaming.llm.hook import LlmHook, hooked

Kind = Literal["stt", "llm", "tts"]

_BASES: Final[dict[str, type[AIService]]] = {
    "stt": STTService,
    "llm": LLMService,
    "tts": TTSService,
}
_PREFERRED: Final = {
    ("cartesia", "stt"): "CartesiaSTTService",
    ("cartesia", "tts"): "CartesiaTTSService",
    ("deepgram", "stt"): "DeepgramSTTService",
    ("deepgram", "tts"): "DeepgramTTSService",
    ("elevenlabs", "stt"): "ElevenLabsRealtimeSTTService",
    ("elevenlabs", "tts"): "ElevenLabsTTSService",
    ("google", "tts"): "GoogleTTSService",
    ("inworld", "tts"): "InworldTTSService",
    ("openai", "llm"): "OpenAILLMService",
    ("openai", "stt"): "OpenAISTTService",
    ("openai", "tts"): "OpenAITTSService",
    ("rime", "tts"): "RimeTTSService",
}
"""The class a vendor's short name means, where its module has several."""

_NOT_SETTINGS: Final = frozenset(
    ("self", "settings", "params", "input_params", "live_options", "name", "metrics", "kwargs")
)
"""Constructor parameters that configuration doesn't set."""


class ServiceError(RingtrueError):
    """A service can't be built from what was configured."""


def build_stt(name: str, settings: Mapping[str, Any]) -> STTService:
    """The recognizer service ``name``; raises :class:`ServiceError`."""
    service = _build("stt", name, settings)
    assert isinstance(service, STTService)
    return service


def build_tts(name: str, settings: Mapping[str, Any]) -> TTSService:
    """The synthesizer service ``name``; raises :class:`ServiceError`."""
    service = _build("tts", name, settings)
    assert isinstance(service, TTSService)
    return service


def build_llm(name: str, settings: Mapping[str, Any], *, prompt: str = "") -> LlmHook:
    """The language-model service ``name``, with the call's hook mixed in.

    ``prompt`` is its system instruction unless ``settings`` give one. Raises
    :class:`ServiceError`.
    """
    given = dict(settings)
    if prompt:
        given.setdefault("system_instruction", prompt)
    service = _build("llm", name, given, hooked)
    assert isinstance(service, LlmHook)
    return service


def known_services(kind: Kind) -> list[str]:
    """Vendors with a service of ``kind``, installed or not."""
    root = Path(str(importlib.import_module("pipecat.services").__path__[0]))
    return sorted(path.parent.name for path in root.glob(f"*/{kind}.py"))


def find_service(kind: Kind, name: str) -> type[AIService]:
    """The class that ``name`` means.

    Raises :class:`ServiceError` naming the known services, the classes of the module, or the
    extra to install.
    """
    name = name.removeprefix("pipecat:")
    vendor, _, rest = name.partition(".")
    known = known_services(kind)
    if ":" in name:
        module, _, attribute = name.partition(":")
    elif name.startswith("pipecat.services.") or rest.count(".") > 1:
        module, _, attribute = name.rpartition(".")
    elif vendor in known:
        module = f"pipecat.services.{vendor}.{kind}"
        attribute = rest.removeprefix(f"{kind}.")
    elif rest:
        module, _, attribute = name.rpartition(".")
    else:
        raise ServiceError(
            f"{kind}.service is {name!r}, which is none of Pipecat's{_meant(name, known)}; "
            f"allowed: {', '.join(known)}, or an import path such as my.module:MyService"
        )
    found = _module(kind, name, module)
    if not attribute:
        attribute = _default_class(kind, name, vendor, found)
    service = getattr(found, attribute, None)
    if not (isinstance(service, type) and issubclass(service, _BASES[kind])):
        classes = _classes(kind, found)
        raise ServiceError(
            f"{kind}.service is {name!r}, but {module} has no {kind} service "
            f"{attribute!r}{_meant(attribute, classes)}; it has: {', '.join(classes) or 'none'}"
        )
    return service


def _module(kind: Kind, name: str, module: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        vendor = module.removeprefix("pipecat.services.").partition(".")[0]
        if module.startswith("pipecat.services.") and vendor in known_services(kind):
            raise ServiceError(
                f"{kind}.service {name!r} needs packages that are not installed ({error}); "
                f'install them: pip install "pipecat-ai[{_extra(vendor)}]"'
            ) from None
        raise ServiceError(
            f"{kind}.service is {name!r}, but {module} can't be imported: {error}"
        ) from None


def _extra(vendor: str) -> str:
    extras = importlib.metadata.metadata("pipecat-ai").get_all("Provides-Extra") or []
    spelled = vendor.replace("_", "-")
    return spelled if spelled in extras else vendor


def _classes(kind: Kind, module: types.ModuleType) -> list[str]:
    return sorted(
        name
        for name, item in vars(module).items()
        if isinstance(item, type)
        and issubclass(item, _BASES[kind])
        and item.__module__ == module.__name__
        and not inspect.isabstract(item)
        and not name.startswith(("_", "Base"))
    )


def _default_class(kind: Kind, name: str, vendor: str, module: types.ModuleType) -> str:
    classes = _classes(kind, module)
    preferred = _PREFERRED.get((vendor, kind))
    if preferred in classes:
        return preferred
    if len(classes) == 1:
        return classes[0]
    raise ServiceError(
        f"{kind}.service {name!r} could be any of: "
        f"{', '.join(f'{vendor}.{each}' for each in classes) or 'none'}; name one"
    )


def _build(
    kind: Kind,
    name: str,
    settings: Mapping[str, Any],
    adapt: Callable[[type[Any]], type[AIService]] | None = None,
) -> AIService:
    service = find_service(kind, name)
    arguments = _arguments(kind, service, settings)
    try:
        return (adapt(service) if adapt else service)(**arguments)
    except Exception as error:  # whatever a vendor's constructor raises
        message = str(error)
        for key, value in settings.items():
            if isinstance(value, str) and value and is_secret_name(key):
                message = message.replace(value, "****")
        raise ServiceError(f"{kind}.service {name!r} can't be built: {message}") from error


def _arguments(kind: Kind, service: type[AIService], settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` as the constructor wants them."""
    fields = _fields(service)
    parameters = _parameters(service)
    chosen: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        where = f"{kind}.settings.{key}"
        if key in fields:
            name, annotation = fields[key]
            chosen[name] = _checked(where, key, value, annotation)
        elif key in parameters:
            arguments[key] = _checked(where, key, value, parameters[key][0])
        else:
            names = sorted({*fields, *parameters})
            raise ServiceError(
                f"{where} is no setting of {service.__name__}{_meant(key, names)}; "
                f"allowed: {', '.join(names)}"
            )
    for key, (annotation, required) in parameters.items():
        if required and key not in arguments and key not in chosen:
            if not _configurable(annotation):
                raise ServiceError(
                    f"{service.__name__} needs {key}, an object that configuration can't give; "
                    "choose another class of the vendor, or a class of your own by import path"
                )
            raise ServiceError(f"{kind}.settings.{key} must be given for {service.__name__}")
    if chosen:
        arguments["settings"] = _settings_class(service)(**chosen)
    return arguments


def _settings_class(service: type[AIService]) -> type[ServiceSettings]:
    found = getattr(service, "Settings", None)
    if isinstance(found, type) and issubclass(found, ServiceSettings):
        return found
    return ServiceSettings


def _fields(service: type[AIService]) -> dict[str, tuple[str, Any]]:
    """Setting as it may be written → the field's name and type; aliases included."""
    settings = _settings_class(service)
    if settings is ServiceSettings:
        return {}
    hints = _hints(settings)
    fields = {
        field.name: (field.name, hints.get(field.name, Any))
        for field in dataclasses.fields(settings)
        if not field.name.startswith("_")
    }
    aliases: Mapping[str, str] = getattr(settings, "_aliases", {})
    for alias, name in aliases.items():
        if name in fields:
            fields.setdefault(alias, fields[name])
    return fields


def _parameters(service: type[AIService]) -> dict[str, tuple[Any, bool]]:
    """Constructor parameter → its type, and whether it must be given.

    A constructor that takes ``**kwargs`` hands them to the next class, so that class's own
    parameters count too; those of Pipecat's base processor do not.
    """
    found: dict[str, tuple[Any, bool]] = {}
    outermost = True
    for owner in service.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        if owner is AIService:
            break
        hints = _hints(init)
        variadic = False
        for parameter in inspect.signature(init).parameters.values():
            variadic |= parameter.kind is inspect.Parameter.VAR_KEYWORD
            if parameter.name in _NOT_SETTINGS or parameter.kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            ):
                continue
            required = outermost and parameter.default is inspect.Parameter.empty
            found.setdefault(parameter.name, (hints.get(parameter.name, Any), required))
        outermost = False
        if not variadic:
            break
    return found


def _hints(item: Any) -> dict[str, Any]:
    """Annotations as types; those naming what is imported for type checkers only are left out."""
    found: dict[str, Any] = {}
    for owner in reversed(item.__mro__) if isinstance(item, type) else (item,):
        scope = vars(importlib.import_module(owner.__module__))
        for name, annotation in getattr(owner, "__annotations__", {}).items():
            holder = types.SimpleNamespace(__annotations__={name: annotation})
            with contextlib.suppress(NameError, TypeError):
                found.update(typing.get_type_hints(holder, globalns=scope))
    return found


def _checked(where: str, key: str, value: Any, annotation: Any) -> Any:
    """``value`` as ``annotation`` wants it."""
    wanted = _without_sentinels(annotation)
    if wanted is Any or (value is None and _allows_none(annotation)):
        return value
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            wanted, config=ConfigDict(arbitrary_types_allowed=False)
        )
    except (PydanticSchemaGenerationError, TypeError):
        raise ServiceError(
            f"{where} is a {_described(wanted)}, which configuration can't give"
        ) from None
    except Exception:  # pydantic models forbid a config of their own
        adapter = TypeAdapter(wanted)
    try:
        return adapter.validate_python(value)
    except ValidationError:
        shown = "'****'" if is_secret_name(key) else repr(value)
        choices = _choices(wanted)
        allowed = ", ".join(choices[:60]) if choices else _described(wanted)
        raise ServiceError(
            f"{where} is {shown}; allowed: {allowed}{_meant(str(value), choices)}"
        ) from None


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for arg in get_args(annotation) for member in _members(arg)]
    return [annotation]


def _without_sentinels(annotation: Any) -> Any:
    """The annotation without the types that mean "not given"."""
    members = [m for m in _members(annotation) if getattr(m, "__name__", "") != "NotGiven"]
    if not members or any(m is Any for m in members):
        return Any
    return Union[tuple(members)]  # noqa: UP007 - built at run time


def _allows_none(annotation: Any) -> bool:
    return annotation is Any or types.NoneType in _members(annotation)


def _configurable(annotation: Any) -> bool:
    wanted = _without_sentinels(annotation)
    if wanted is Any:
        return True
    try:
        TypeAdapter(wanted)
    except Exception:  # no schema: a live object
        return False
    return True


def _choices(annotation: Any) -> list[str]:
    found: list[str] = []
    for member in _members(annotation):
        if get_origin(member) is Literal:
            found += [str(value) for value in get_args(member)]
        elif isinstance(member, type) and issubclass(member, Enum):
            found += [str(value.value) for value in member]
    return found


def _described(annotation: Any) -> str:
    names = [
        "null" if member is types.NoneType else getattr(member, "__name__", str(member))
        for member in _members(annotation)
    ]
    return " or ".join(names)


def _meant(value: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(value, choices, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
