"""The language stage of one call, as configured: LLM, deadlines, phrases and context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameProcessor

from ringtrue.config.agent_dialogue import PLACEHOLDER, Action, TransferAction
from ringtrue.config.agent_disclosure import DisclosureTexts
from ringtrue.config.agent_schema import Agent
from ringtrue.config.budget_settings import BudgetSettings
from ringtrue.config.settings import (
    DeadlineSettings,
    DialogueSettings,
    OpenAiSettings,
    PipecatService,
)
from ringtrue.streaming.budget.deadline import BudgetPolicy, BudgetStage
from ringtrue.streaming.budget.keeper import BudgetKeeper, KeeperPolicy, KeeperTexts
from ringtrue.streaming.budget.ladder import Rung
from ringtrue.streaming.errors import LanguageError
from ringtrue.streaming.llm.actions import CallAction, Hangup, Transfer
from ringtrue.streaming.llm.claims import ClaimFilter
from ringtrue.streaming.llm.compatible import OpenAiLlm, build_openai, call_tools, second_request
from ringtrue.streaming.llm.deadline import LlmWatchdog, StallReport, WatchdogPolicy
from ringtrue.streaming.llm.dialogue import Dialogue
from ringtrue.streaming.llm.disclosing import Disclosing
from ringtrue.streaming.llm.disclosure import Disclosure, Told
from ringtrue.streaming.llm.embedded import DialogueLLMService, local_now
from ringtrue.streaming.llm.hook import LlmHook
from ringtrue.streaming.llm.slots import say_date, say_time
from ringtrue.streaming.phrases import PhraseChunker, PhrasePolicy
from ringtrue.streaming.record import Stage
from ringtrue.streaming.services import build_llm

LlmSettings = DialogueSettings | OpenAiSettings | PipecatService


@dataclass(frozen=True, slots=True)
class LanguageStage:
    """What stands between the user's context and the synthesizer in one call's graph."""

    llm: LlmHook
    watchdog: LlmWatchdog
    disclosing: Disclosing
    phrases: PhraseChunker
    context: LLMContext
    disclosure: Disclosure
    """What the caller was told of the agent."""

    keeper: BudgetKeeper
    """Keeps turns to their budget; stands right before the synthesizer."""

    @property
    def before_tts(self) -> tuple[FrameProcessor, ...]:
        """What follows the LLM, in order."""
        return (self.watchdog, self.disclosing, self.phrases)


def build_language(
    settings: LlmSettings,
    agent: Agent,
    deadlines: DeadlineSettings,
    *,
    dialogue: Dialogue | None = None,
    variables: Mapping[str, str] | None = None,
    seed: int = 0,
    now: Callable[[], datetime] = local_now,
    phrase_policy: PhrasePolicy | None = None,
    on_stall: Callable[[StallReport], None] | None = None,
    probe: Callable[[Stage], None] | None = None,
    budget: BudgetSettings | None = None,
    faster: Callable[[], Awaitable[bool]] | None = None,
) -> LanguageStage:
    """Build it for one call of ``agent``.

    ``dialogue`` is the agent's, compiled before (else compiled here). ``variables`` are the
    call's own values of the agent's variables, ``seed`` chooses the first variants. Running an
    empty context (``CallGraph.respond``) speaks the greeting, behind the disclosure, whatever the
    LLM. ``faster`` lets a second synthesizer speak where the first makes nothing.

    Raises :class:`LanguageError` or :class:`~ringtrue.streaming.services.ServiceError`.
    """
    values = _values(agent, variables, now())
    context = LLMContext()
    llm: LlmHook
    if isinstance(settings, DialogueSettings):
        llm = DialogueLLMService(
            dialogue or Dialogue(agent), variables=variables, seed=seed, now=now
        )
    else:
        prompt = filled(agent.prompt, values)
        if isinstance(settings, OpenAiSettings):
            llm = build_openai(settings, prompt)
            llm.second = second_request(settings, deadlines.llm_first_chunk_seconds)
        else:
            llm = build_llm(settings.service, settings.revealed(), prompt=prompt)
        llm.greeting = filled(agent.greeting[seed % len(agent.greeting)], values)
        context = LLMContext(tools=call_tools(agent))
    llm.language = agent.language
    disclosure = llm.disclosure = Disclosure(disclosed(agent, values))
    policy = watchdog_policy(agent, deadlines, values)
    phrases = PhraseChunker(phrase_policy, probe=probe)
    keeper = BudgetKeeper(
        keeper_texts(agent, policy, values),
        keeper_policy(budget or BudgetSettings()),
        hurry=phrases.hurry,
        faster=faster,
        disclosed=lambda: disclosure.told is Told.FULLY,
        disclose=lambda: disclosure.begins(response=False),
    )
    watchdog = LlmWatchdog(
        llm,
        policy,
        on_stall=on_stall,
        probe=probe,
        on_step=keeper.took,
        filling=lambda: keeper.filling,
    )
    if isinstance(llm, OpenAiLlm):
        llm.on_hedge = lambda hedged: keeper.took(Rung.SECOND_MODEL, hedged.reason)
    disclosing = Disclosing(disclosure)
    return LanguageStage(llm, watchdog, disclosing, phrases, context, disclosure, keeper)


def keeper_policy(budget: BudgetSettings) -> KeeperPolicy:
    """What the keeper keeps to, as configured."""
    shares = {BudgetStage(name): value for name, value in budget.allotments.model_dump().items()}
    return KeeperPolicy(
        BudgetPolicy(budget.turn_seconds, budget.ttfa_seconds, shares),
        openers=budget.openers,
        apology=budget.apology_seconds,
        apologies=budget.apologies,
        faster_after=budget.voice_stall_seconds,
    )


def keeper_texts(agent: Agent, policy: WatchdogPolicy, values: Mapping[str, str]) -> KeeperTexts:
    """What ``agent`` says when a turn runs late; none of it claims that a person speaks."""
    language = agent.language.partition("-")[0]

    def told(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in (filled(one, values) for one in texts) if honest(text))

    def honest(text: str) -> bool:
        claims = ClaimFilter(language, "")
        claims.feed(text)
        claims.finish()
        return not claims.caught

    openers, waiting = agent.fillers()
    return KeeperTexts(
        told(openers),
        told(waiting),
        policy.give_up_say,
        policy.give_up_action,
        (*policy.filler, *policy.apology),
    )


def disclosed(agent: Agent, values: Mapping[str, str]) -> DisclosureTexts:
    """What ``agent`` says about itself, placeholders filled from ``values``."""
    texts = agent.disclosed()
    return replace(
        texts,
        opening=filled(texts.opening, values),
        again=filled(texts.again, values),
        answer=filled(texts.answer, values),
        truth=filled(texts.truth, values),
        recording=filled(texts.recording, values),
    )


def watchdog_policy(
    agent: Agent, deadlines: DeadlineSettings, values: Mapping[str, str]
) -> WatchdogPolicy:
    """The server's deadlines with the agent's words, placeholders filled from ``values``."""

    def texts(variants: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filled(text, values) for text in variants)

    stalls = agent.stalls
    return WatchdogPolicy(
        first_chunk=deadlines.llm_first_chunk_seconds,
        inter_chunk=deadlines.llm_inter_chunk_seconds,
        filler=texts(stalls.filler),
        apology=texts(stalls.apology),
        retry=stalls.retry,
        give_up_after=stalls.give_up_after,
        give_up_say=texts(stalls.give_up.say),
        give_up_action=_action(stalls.give_up.action, values),
    )


def _values(agent: Agent, variables: Mapping[str, str] | None, now: datetime) -> dict[str, str]:
    given = dict(variables or {})
    if unknown := sorted(set(given) - set(agent.variables)):
        known = ", ".join(sorted(agent.variables)) or "none defined"
        raise LanguageError(
            f"agent {agent.name!r} has no variable {unknown[0]!r}; variables: {known}"
        )
    today = say_date(now.date())
    built_in = {
        "time": say_time(now.hour, now.minute),
        "date": today,
        "weekday": today.partition(",")[0],
    }
    return {**built_in, **agent.variables, **given}


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its placeholders filled from ``values``; others stay."""
    return PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group()), text)


def _action(action: Action, values: Mapping[str, str]) -> CallAction:
    if not isinstance(action, TransferAction):
        return Hangup()
    return Transfer(action.transfer, filled(action.briefing or "", values))
