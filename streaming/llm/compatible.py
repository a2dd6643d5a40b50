"""OpenAI-compatible endpoints (OpenAI, vLLM, Ollama, llama.cpp), with the call's tools.

A model may ask to hang up or to transfer. It names a place of the agent's own list and nothing
else; the list is checked here again, because what a model says is shaped by what callers say.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from openai import APIConnectionError, AsyncOpenAI
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import FunctionCallResultProperties, TTSSpeakFrame
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.utils.errors import ErrorCategory

from ringtrue.config.agent_schema import Agent
from ringtrue.config.settings import OpenAiSettings
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.actions import CallAction, CallActionFrame, Hangup, Transfer
from ringtrue.streaming.llm.hook import LlmHook

log = structlog.get_logger(__name__)

_SAY: Final = {
    "type": "string",
    "description": (
        "Your last sentence to the caller, spoken before it happens. "
        "Leave it empty if you have just said it."
    ),
}
_MAX_SAY: Final = 400
"""Characters of a tool's last sentence that are spoken."""


class OpenAiLlm(LlmHook, OpenAILLMService):
    """Pipecat's OpenAI service, which also closes its connections when the call ends."""

    def create_client(self, **kwargs: Any) -> AsyncOpenAI:  # type: ignore[override]
        """No retries by the client: the watchdog decides, and the caller hears it."""
        client = super().create_client(**kwargs)  # type: ignore[no-untyped-call]
        assert isinstance(client, AsyncOpenAI)
        return client.with_options(max_retries=0)

    def _classify_error(self, exception: Exception) -> ErrorCategory | None:
        if isinstance(exception, APIConnectionError):
            return ErrorCategory.CONNECTIVITY
        return super()._classify_error(exception)

    async def cleanup(self) -> None:
        """Release the service and its connections."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._client.close()


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

        async def transfer(params: FunctionCallParams) -> None:
            await _transfer(params, agent)

        tools.append(
            FunctionSchema(
                name="transfer",
                description=f"Hand the caller over to one of these places. {places}.",
                properties={
                    "target": {"type": "string", "enum": list(agent.transfers)},
                    "say": _SAY,
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
    await _act(params, Transfer(target))


async def _act(params: FunctionCallParams, action: CallAction) -> None:
    """Speak the last sentence, then let the action follow it; the model is not asked again."""
    say = params.arguments.get("say")
    if isinstance(say, str) and say.strip():
        await params.llm.push_frame(TTSSpeakFrame(say.strip()[:_MAX_SAY], append_to_context=True))
    await params.llm.push_frame(CallActionFrame(action, reason="tool"))
    await params.result_callback(
        {"status": "done"}, properties=FunctionCallResultProperties(run_llm=False)
    )
