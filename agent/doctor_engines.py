"""Checks of what hears, thinks and speaks."""

from __future__ import annotations

from importlib import import_module, resources
from pathlib import Path
from typing import Final

from ringtrue.agent.findings import Check, CheckFunction, State, installed_version
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import (
    FliteSettings,
    OpenAiSettings,
    PipecatService,
    PocketsphinxSettings,
    Settings,
    WhisperSettings,
)
from ringtrue.streaming.services import Kind, ServiceError, find_service

REINSTALL: Final = "install the package again"


def _speech(settings: Settings) -> Check:
    if isinstance(settings.tts, PipecatService):
        return _service("speech", "tts", settings.tts)
    assert isinstance(settings.tts, FliteSettings)
    from ringtrue.streaming.errors import SynthesisError
    from ringtrue.voices.flite.frontend import FliteVoice
    from ringtrue.voices.flite.library import Flite

    try:
        flite = Flite(search=settings.paths.libraries)
        voices = [FliteVoice(flite, name).name for name in ("slt", "awb", "rms")]
    except SynthesisError as error:
        return Check(
            "speech",
            State.MISSING,
            str(error),
            "the agent can't speak",
            "apt-get install libflite1, or name its directory in paths.libraries",
        )
    where = flite.directory or "the system's libraries"
    return Check(
        "speech", State.OK, f"flite {flite.version} from {where}, voices {', '.join(voices)}"
    )


def _recognizer(settings: Settings) -> Check:
    stt = settings.stt
    if isinstance(stt, PipecatService):
        return _service("recognizer", "stt", stt)
    if isinstance(stt, PocketsphinxSettings):
        import pocketsphinx

        model = Path(pocketsphinx.get_model_path()) / "en-us" / "en-us"
        if not (model / "mdef").is_file():
            cost = "the agent hears nothing"
            return Check("recognizer", State.MISSING, f"no model in {model}", cost, REINSTALL)
        if stt.file is not None and not stt.file.is_file():
            cost = "the agent hears nothing"
            return Check(
                "recognizer", State.MISSING, f"{stt.file} is not there", cost, "correct stt.file"
            )
        return Check(
            "recognizer",
            State.DEGRADED,
            f"pocketsphinx {installed_version('pocketsphinx')}, {stt.model} language model",
            "menus and known phrases are understood, open talk is not",
            "stt.engine whisper or a hosted service for open talk",
        )
    assert isinstance(stt, WhisperSettings)
    return _whisper(stt)


def _whisper(stt: WhisperSettings) -> Check:
    import_module("faster_whisper")
    directory = Path(stt.model).expanduser()
    if (directory / "model.bin").is_file():
        return Check("recognizer", State.OK, f"faster-whisper, model in {directory}")
    if directory.is_dir() or stt.model.startswith(("/", ".", "~")):
        found = f"{directory} holds no model.bin"
        return Check(
            "recognizer", State.MISSING, found, "the agent hears nothing", "correct stt.model"
        )
    from faster_whisper.utils import download_model

    try:
        place = download_model(stt.model, local_files_only=True)
    except Exception as error:  # the hub library raises many kinds
        return Check(
            "recognizer",
            State.DEGRADED,
            f"faster-whisper model {stt.model!r} is not on this machine ({type(error).__name__})",
            "it is downloaded at the first start, which fails without the hub",
            "name a directory with a converted model in stt.model",
        )
    return Check("recognizer", State.OK, f"faster-whisper {stt.model} in {place}")


def _service(name: str, kind: Kind, service: PipecatService) -> Check:
    try:
        found = find_service(kind, service.service)
    except ServiceError as error:
        return Check(
            name, State.MISSING, str(error), "no call can be answered", f"correct {kind}.service"
        )
    return Check(name, State.OK, f"{found.__module__}.{found.__qualname__} (not contacted)")


def _language(settings: Settings) -> Check:
    llm = settings.llm
    if isinstance(llm, PipecatService):
        return _service("language", "llm", llm)
    if isinstance(llm, OpenAiSettings):
        where = llm.base_url or "OpenAI"
        if llm.base_url is None and llm.api_key is None:
            return Check(
                "language",
                State.MISSING,
                "OpenAI without an API key",
                "every turn ends in an apology",
                "set llm.api_key (RINGTRUE_LLM__API_KEY) or llm.base_url",
            )
        return Check("language", State.OK, f"{llm.model} at {where} (not contacted)")
    return Check("language", State.OK, "embedded dialogue, no model needed")


def _silero(_: Settings) -> Check:
    from ringtrue.streaming.silero import SileroModel

    SileroModel()
    return Check("voice activity", State.OK, "silero loads")


def _smart_turn(settings: Settings) -> Check:
    if not settings.turns.smart_turn:
        return Check(
            "turn detection",
            State.DEGRADED,
            "turns.smart_turn is off",
            "a pause alone ends the caller's turn",
            "set turns.smart_turn",
        )
    data = resources.files("pipecat.audio.turn.smart_turn.data")
    models = [item.name for item in data.iterdir() if item.name.endswith(".onnx")]
    if not models:
        cost = "no call can be answered"
        return Check("turn detection", State.MISSING, "no smart-turn model", cost, REINSTALL)
    return Check("turn detection", State.OK, ", ".join(models))


def _agents(settings: Settings) -> Check:
    from ringtrue.config.agent_schema import load_agents

    try:
        agents = load_agents(settings.agents.dir)
    except ConfigError as error:
        cost = "the server can't start"
        return Check("agents", State.MISSING, str(error), cost, "correct the file named")
    wanted = sorted({settings.agents.default, *settings.sip.routes.values()})
    missing = [name for name in wanted if name not in agents]
    if missing:
        return Check(
            "agents",
            State.MISSING,
            f"no agent {', '.join(missing)}; there are: {', '.join(sorted(agents)) or 'none'}",
            "the server can't start",
            "correct agents.default, agents.dir or sip.routes",
        )
    return Check("agents", State.OK, ", ".join(sorted(agents)))


def _gpu(settings: Settings) -> Check:
    import ctranslate2

    count = ctranslate2.get_cuda_device_count()
    if count:
        return Check("gpu", State.OK, f"{count} CUDA device{'s' if count > 1 else ''}")
    if isinstance(settings.stt, WhisperSettings):
        state = State.MISSING if settings.stt.device == "cuda" else State.DEGRADED
        cost = "Whisper models above base.en are slower than speech"
        if state is State.MISSING:
            cost = "stt.device is cuda: the recognizer can't start"
        return Check("gpu", state, "none", cost, "stt.device cpu and a small model, or a GPU")
    return Check("gpu", State.OK, "none, and none needed by the engines chosen")


ENGINE_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _speech,
    _recognizer,
    _language,
    _silero,
    _smart_turn,
    _agents,
    _gpu,
)
"""All of this module, in the order they are shown."""
