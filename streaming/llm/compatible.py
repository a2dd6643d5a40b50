"""OpenAI-compatible endpoints (OpenAI, vLLM, Ollama, llama.cpp), with the call's tools.

A model may ask to hang up or to transfer. It names a place of the agent's own list and nothing
else; the list is checked here again, because what a model says is shaped by what callers say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from openai import NOT_GIVEN, APIConnectionError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import FunctionCallResultProperties, TTSSpeakFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.settings import LLMSettings
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.types import assert_given

from ringtrue.config.agent_schema import Agent
from ringtrue.config.settings import OpenAiSettings
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.actions import CallAction, CallActionFrame, Hangup, Transfer
from ringtrue.streaming.llm.hedge import Hedged, HedgedStream, first_to_answer
from ringtrue.streaming.llm.hook import LlmHook

log = structlog.get_logger(__name__)

_SAY: Final = {
    "type": "string",
    "description": (
        "Your last sentence to the caller, spoken before it happens. "
        "Leave it empty if you have just said it."
    ),
}
_BRIEFING: Final = {
    "type": "string",
    "description": (
        "One sentence for the colleague who is called first: who the caller is and what about."
    ),
}
_MAX_SAY: Final = 400
"""Characters of a tool's last sentence that are spoken."""


@dataclass(frozen=True, slots=True)
class SecondRequest:
    """What is asked when the first request is slow or fails."""

    delay: float | None
    """Seconds without a token after which it is made; None: only when the first failed."""

    model: str | None = None
    """None: the same model."""

    base_url: str | None = None
    """None: the same endpoint, and the same key."""

    api_key: str = ""


class OpenAiLlm(LlmHook, OpenAILLMService):
    """Pipecat's OpenAI service, which also closes its connections when the call ends.

    With :attr:`second` it may make a second request for an answer; only one of both is heard, and
    only its tool calls are made.
    """

    second: SecondRequest | None = None
    on_hedge: Callable[[Hedged], None] | None = None
    """Told when the second request is made."""

    _other: AsyncOpenAI | None = None

    def create_client(self, **kwargs: Any) -> AsyncOpenAI:  # type: ignore[override]
        """No retries by the client: the watchdog decides, and the caller hears it."""
        client = super().create_client(**kwargs)  # type: ignore[no-untyped-call]
        assert isinstance(client, AsyncOpenAI)
        return client.with_options(max_retries=0)

    async def get_chat_completions(self, context: LLMContext) -> Any:
        """The chunks of the answer; of whichever request gives a token first."""
        second = self.second
        if second is None:
            return await super().get_chat_completions(context)
        elsewhere = second.base_url is not None
        settings: LLMSettings = self._settings
        instruction = assert_given(settings.system_instruction)
        given = await self.get_llm_adapter().get_llm_invocation_params(
            context,
            system_instruction=instruction,
            convert_developer_to_user=elsewhere or not self.supports_developer_role,
        )
        params = self.build_chat_completion_params(given)
        other = dict(params)
        other["model"] = second.model or params["model"]
        if elsewhere:
            # Compatible servers may not know OpenAI's own name for it.
            limit = other.pop("max_completion_tokens", NOT_GIVEN)
            if isinstance(limit, int):
                other["max_tokens"] = limit

        async def ask_first() -> AsyncIterator[ChatCompletionChunk]:
            return await _streamed(self._client, params)

        async def ask_second() -> AsyncIterator[ChatCompletionChunk]:
            return await _streamed(self._other_client(second), other)

        source = await first_to_answer((ask_first, ask_second), _gives, second.delay, self._hedged)
        return HedgedStream(source)

    def _other_client(self, second: SecondRequest) -> AsyncOpenAI:
        if second.base_url is None:
            client: AsyncOpenAI = self._client
            return client
        if self._other is None:
            self._other = self.create_client(
                api_key=second.api_key or "none", base_url=second.base_url
            )
        return self._other

    def _hedged(self, hedged: Hedged) -> None:
        log.info("llm.second_request", reason=hedged.reason)
        if self.on_hedge is not None:
            self.on_hedge(hedged)

    def _classify_error(self, exception: Exception) -> ErrorCategory | None:
        if isinstance(exception, APIConnectionError):
            return ErrorCategory.CONNECTIVITY
        return super()._classify_error(exception)

    async def cleanup(self) -> None:
        """Release the service and its connections."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._client.close()
        if self._other is not None:
            await self._other.close()


async def _streamed(
    client: AsyncOpenAI, params: dict[str, Any]
) -> AsyncIterator[ChatCompletionChunk]:
    stream = await client.chat.completions.create(**params)
    assert isinstance(stream, AsyncStream)
    return stream


def _gives(chunk: ChatCompletionChunk) -> bool:
    """Whether there is a token in it, of a text or of a tool call."""
    delta = chunk.choices[0].delta if chunk.choices else None
    return delta is not None and bool(delta.content or delta.tool_calls)


def second_request(settings: OpenAiSettings, first_chunk: float) -> SecondRequest | None:
    """As configured, for an LLM that is given up after ``first_chunk`` seconds without a token."""
    fallback, delay = settings.fallback, settings.hedge_seconds
    if fallback is None:
        return None if delay is None else SecondRequest(delay)
    key = fallback.api_key.get_secret_value() if fallback.api_key else ""
    delay = first_chunk / 2 if delay is None else delay
    return SecondRequest(delay, fallback.model, fallback.base_url, key)


def build_openai(settings: OpenAiSettings, prompt: str) -> OpenAiLlm:
    """The service for one call.

    Raises :class:`LanguageError` where neither a key nor an endpoint that needs none is set.
    """
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if not key and settings.base_url is None:
        raise LanguageError(
            "llm.api_key is not set, and without llm.base_url the endpoint is OpenAI's own, which "
            "needs one; set RINGTRUE_LLM__API_KEY, or llm.base_url to a server of yours"
        )
    chosen: dict[str, Any] = {"model": settings.model, "system_instruction": prompt or None}
    if settings.temperature is not None:
        chosen["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        # OpenAI's newer models refuse max_tokens; compatible servers may not know the other.
        name = "max_completion_tokens" if settings.base_url is None else "max_tokens"
        chosen[name] = settings.max_tokens
    service = OpenAiLlm(
        api_key=key or "none",
        base_url=settings.base_url,
        settings=OpenAiLlm.Settings(**chosen),
    )
    # The role is OpenAI's own; chat templates of other models don't know it.
    service.supports_developer_role = settings.base_url is None
    return service


def call_tools(agent: Agent) -> ToolsSchema:
    """``hangup``, ``transfer`` where the agent has anywhere to transfer to, and ``mask_recording``
    where its calls are recorded."""
    tools = [
        FunctionSchema(
            name="hangup",
            description="End the call, once the caller is done or has said goodbye.",
            properties={"say": _SAY},
            required=["say"],
            handler=_hangup,
        )
    ]
    if agent.transfers:
        places = ", ".join(f"{name}: {to.title}" for name, to in agent.transfers.items())

        asks = any(to.how != "blind" for to in agent.transfers.values())

        async def transfer(params: FunctionCallParams) -> None:
            await _transfer(params, agent)

        tools.append(
            FunctionSchema(
                name="transfer",
                description=f"Hand the caller over to one of these places. {places}.",
                properties={
                    "target": {"type": "string", "enum": list(agent.transfers)},
                    "say": _SAY,
                    **({"briefing": _BRIEFING} if asks else {}),
                },
                required=["target", "say"],
                handler=transfer,
            )
        )
    if agent.recording.enabled:
        tools.append(
            FunctionSchema(
                name="mask_recording",
                description=(
                    "Keep what the caller says out of the call's recording: on before you ask for "
                    "a card number, a password or the like, off once you have it."
                ),
                properties={"on": {"type": "boolean"}},
                required=["on"],
                handler=_mask_recording,
            )
        )
    return ToolsSchema(standard_tools=tools)


async def _hangup(params: FunctionCallParams) -> None:
    await _act(params, Hangup())


async def _mask_recording(params: FunctionCallParams) -> None:
    on = params.arguments.get("on")
    if not isinstance(on, bool) or not isinstance(params.llm, LlmHook):
        await params.result_callback({"error": "on must be true or false"})
        return
    params.llm.masks = on
    await params.result_callback({"masked": on})


async def _transfer(params: FunctionCallParams, agent: Agent) -> None:
    target = params.arguments.get("target")
    if not isinstance(target, str) or target not in agent.transfers:
        log.warning("llm.transfer_refused", agent=agent.name)
        await params.result_callback(
            {"error": f"not allowed; targets: {', '.join(agent.transfers)}"}
        )
        return
    briefing = params.arguments.get("briefing")
    text = briefing.strip()[:_MAX_SAY] if isinstance(briefing, str) else ""
    await _act(params, Transfer(target, text))


async def _act(params: FunctionCallParams, action: CallAction) -> None:
    """Speak the last sentence, then let the action follow it; the model is not asked again."""
    say = params.arguments.get("say")
    if isinstance(say, str) and say.strip():
        await params.llm.push_frame(TTSSpeakFrame(say.strip()[:_MAX_SAY], append_to_context=True))
    await params.llm.push_frame(CallActionFrame(action, reason="tool"))
    await params.result_callback(
        {"status": "done"}, properties=FunctionCallResultProperties(run_llm=False)
    )
