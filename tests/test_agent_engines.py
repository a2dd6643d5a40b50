"""What the settings make of a call's three services; nothing here needs a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pipecat.services.cartesia.stt import CartesiaSTTService
from pipecat.services.cartesia.tts import CartesiaTTSService

from ringtrue.agent.casting import Casting
from ringtrue.agent.engines import Engines
from ringtrue.config.agent_schema import Agent, load_agents
from ringtrue.config.errors import ConfigError
from ringtrue.config.settings import load_settings
from ringtrue.streaming.errors import LanguageError, RecognizerError
from ringtrue.streaming.graph import Services
from ringtrue.streaming.llm.compatible import OpenAiLlm
from ringtrue.streaming.llm.embedded import DialogueLLMService
from ringtrue.streaming.llm.hook import LlmHook
from ringtrue.streaming.recognizers.service import StreamingRecognizer
from ringtrue.streaming.recognizers.sphinx import SphinxRecognizer
from ringtrue.streaming.recognizers.whisper import WhisperRecognizer
from ringtrue.streaming.services import ServiceError
from ringtrue.streaming.spare import SpareVoice
from ringtrue.streaming.synthesizer import SpeechSynthesizer

AGENTS = load_agents()
PIPECAT = {"ENGINE": "pipecat", "SERVICE": "cartesia", "SETTINGS": '{"api_key": "k"}'}


@asynccontextmanager
async def engines(
    section: str = "STT", agents: dict[str, Agent] = AGENTS, **values: Any
) -> AsyncIterator[Engines]:
    """Engines with one section of the settings changed, as the environment would."""
    environ = {f"RINGTRUE_{section}__{key}": str(value) for key, value in values.items()}
    made = Engines(load_settings(environ=environ), tuple(agents.values()))
    try:
        yield made
    finally:
        await made.close()


def services(made: Engines, agent: str = "reception") -> Services:
    return made.services(
        AGENTS[agent],
        casting=Casting(AGENTS[agent].voice),
        probe=lambda stage: None,
        on_stall=lambda report: pytest.fail(str(report)),
        on_fallback=pytest.fail,
    )


def recognizer(made: Engines, agent: str = "reception") -> Any:
    stt = services(made, agent).stt
    assert isinstance(stt, StreamingRecognizer)
    return stt._recognizer


async def test_the_shipped_defaults() -> None:
    async with engines() as made:
        first, second = services(made), services(made)
        assert isinstance(first.stt, StreamingRecognizer)
        assert isinstance(first.llm, DialogueLLMService)
        assert isinstance(first.tts, SpeechSynthesizer)
        assert first.completes == first.llm.completes
        for part in ("stt", "llm", "tts", "context"):
            assert getattr(first, part) is not getattr(second, part)
        assert made.recognizer_pids() == ()


async def test_each_agent_is_listened_to_with_its_own_words() -> None:
    async with engines() as made:
        reception, reminder = recognizer(made), recognizer(made, "reminder")
        assert isinstance(reception, SphinxRecognizer)
        assert recognizer(made) is reception
        assert reminder is not reception
        assert reminder.pool is reception.pool
        assert reception.grammar.kind == "vocabulary"
        assert "opening hours" in reception.grammar.vocabulary.phrases
        assert "opening hours" not in reminder.grammar.vocabulary.phrases


async def test_a_common_model_is_loaded_once(tmp_path: Path) -> None:
    async with engines(MODEL="general", PROCESSES=3, MIRROR_GAIN=0.1) as made:
        shared = recognizer(made)
        assert recognizer(made, "reminder") is shared
        assert shared.grammar.kind == "general"
        assert shared.mirror_gain == 0.1
        assert shared.pool.policy.processes == 3
    menu = tmp_path / "menu.jsgf"
    menu.write_text("#JSGF V1.0;\ngrammar menu;\npublic <menu> = sales | support;\n")
    async with engines(MODEL="jsgf", FILE=menu) as made:
        assert recognizer(made).grammar.kind == "jsgf"
    domain = tmp_path / "domain.lm"
    domain.write_text("")
    async with engines(MODEL="lm", FILE=domain) as made:
        assert recognizer(made).grammar.kind == "lm"


async def test_loading_starts_the_workers_and_closing_ends_them() -> None:
    one = {"reminder": AGENTS["reminder"]}
    async with engines(agents=one, PROCESSES=2) as made:
        await made.warm()
        pids = made.recognizer_pids()
        assert len(set(pids)) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        assert made.synthesis is not None
        assert AGENTS["reminder"].voice in made.synthesis.voices
        assert made.models.smart_turn is not None
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_recognizer_that_cannot_load_names_its_file(tmp_path: Path) -> None:
    async with engines(MODEL="lm", FILE=tmp_path / "absent.lm") as made:
        with pytest.raises(RecognizerError, match=r"absent\.lm"):
            await made.warm()


async def test_closing_goes_on_where_a_part_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"reminder": AGENTS["reminder"]}
    async with engines(agents=one) as made:
        await made.warm()
        (pid,) = made.recognizer_pids()
        (loaded,) = made._recognizers.values()

        async def broken() -> None:
            raise RuntimeError("stuck")

        with monkeypatch.context() as patch:
            patch.setattr(loaded, "close", broken)
            with pytest.raises(RuntimeError, match="stuck"):
                await made.close()
        assert not Path(f"/proc/{pid}").exists()


async def test_smart_turn_can_be_off() -> None:
    async with engines("TURNS", SMART_TURN="false") as made:
        assert made.models.smart_turn is None
        assert made.models is made.models


async def test_whisper_as_configured() -> None:
    how = {"STEP_SECONDS": 0.5, "WINDOW_SECONDS": 9, "BEAM_SIZE": 3, "THREADS": 2}
    async with engines(ENGINE="whisper", MODEL="./model", LANGUAGE="en", **how) as made:
        whisper = recognizer(made)
        assert isinstance(whisper, WhisperRecognizer)
        assert recognizer(made, "reminder") is whisper
        policy = whisper.policy
        assert (policy.step, policy.window, policy.beam_size, policy.threads) == (0.5, 9, 3, 2)
        with pytest.raises(RecognizerError, match=r"\./model"):
            await made.warm()


async def test_an_openai_compatible_model() -> None:
    how = {"MODEL": "llama", "BASE_URL": "http://127.0.0.1:9/v1", "API_KEY": "k"}
    async with engines("LLM", ENGINE="openai", **how) as made:
        llm = services(made).llm
        assert isinstance(llm, OpenAiLlm)
        assert llm._settings.model == "llama"
        assert str(llm._client.base_url) == "http://127.0.0.1:9/v1/"


async def test_services_of_pipecats_by_name() -> None:
    async with engines(**PIPECAT) as made:
        stt = services(made).stt
        assert isinstance(stt, CartesiaSTTService)
        assert stt._audio_passthrough is False
        await made.warm()
        assert made.recognizer_pids() == ()
    async with engines("TTS", **PIPECAT) as made:
        assert isinstance(services(made).tts, CartesiaTTSService)
        assert made.synthesis is None
    async with engines("LLM", **(PIPECAT | {"SERVICE": "openai"})) as made:
        llm = services(made).llm
        assert isinstance(llm, LlmHook)
        assert not isinstance(llm, DialogueLLMService)


async def test_a_service_there_is_not() -> None:
    async with engines("TTS", ENGINE="pipecat", SERVICE="nobody") as made:
        with pytest.raises(ServiceError, match="nobody"):
            services(made)


async def test_a_voice_there_is_not() -> None:
    odd = {"odd": AGENTS["demo"].model_copy(update={"name": "odd", "voice": "bob"})}
    with pytest.raises(ConfigError, match="agent odd: voice is 'bob'; tts.engine flite has: "):
        async with engines(agents=odd):
            pytest.fail("has a voice called bob")
    async with engines("TTS", agents=odd, **PIPECAT):
        pass


async def test_an_agent_without_a_dialogue_needs_a_model() -> None:
    mute = {"mute": AGENTS["demo"].model_copy(update={"name": "mute", "dialogue": None})}
    with pytest.raises(LanguageError, match="mute"):
        async with engines(agents=mute):
            pytest.fail("answers without a dialogue")
    async with engines("LLM", agents=mute, ENGINE="openai", MODEL="m", API_KEY="k"):
        pass


async def test_a_hosted_voice_may_have_a_spare_one() -> None:
    spare = '{"engine": "flite", "voice": "rms"}'
    async with engines("TTS", **PIPECAT, FALLBACK=spare) as made:
        given = services(made)
        assert isinstance(given.tts, SpareVoice)
        assert given.keeper is not None
        assert given.keeper._faster == given.tts.switch
        assert made.speaker.startswith("cartesia, or flite")
    async with engines("TTS", **PIPECAT) as made:
        given = services(made)
        assert isinstance(given.tts, CartesiaTTSService)
        assert made.synthesis is None
        assert made.speaker == "cartesia"


async def test_every_call_has_a_keeper_that_knows_its_voice_and_its_model() -> None:
    second = {"MODEL": "first", "BASE_URL": "http://127.0.0.1:1/v1", "HEDGE_SECONDS": 0.5}
    async with engines("LLM", ENGINE="openai", **second) as made:
        given = services(made)
        assert isinstance(given.llm, OpenAiLlm)
        assert given.llm.second is not None
        assert given.llm.second.delay == 0.5
        assert given.keeper is not None
        assert given.keeper.voice is given.tts
        assert given.keeper.learn is not None
