"""The HTTP interface of placed calls. Part of ``/v1``."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ringtrue.agent.api_keys import asker, needs
from ringtrue.agent.dial_outcomes import DialOutcome, PlacedState
from ringtrue.agent.dial_plan import DialRefusal, DialRefusedError
from ringtrue.agent.held_work import After, Wait
from ringtrue.agent.outbound import Order, Outbound, PlacedCall, with_variables
from ringtrue.agent.problems import HEADERS, Problem, wrong
from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.ports import EndReason
from ringtrue.voices.store.api_keys import API_AGENT, ApiKey, ApiScope

MAX_VARIABLES: Final = 32
MAX_VALUE: Final = 200
MAX_TOKENS: Final = 2000
"""Idempotency keys remembered."""

_STATUS: Final = {
    DialRefusal.TARGET: 422,
    DialRefusal.CONCURRENT: 429,
    DialRefusal.ATTEMPTS: 429,
    DialRefusal.MINUTES: 429,
    DialRefusal.SPEND: 429,
    DialRefusal.FULL: 503,
}
"""Any other refusal is 403: the rules forbid the call, now and later."""


class NewCall(BaseModel):
    """A call to be placed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    to: str = Field(
        min_length=3,
        max_length=256,
        description="`tel:+15551234567`, `+15551234567` or `sip:alice@pbx.example.com`.",
        examples=["tel:+15551234567"],
    )
    agent: str = Field(min_length=1, max_length=80, description="Who calls.", examples=["reminder"])
    caller: str | None = Field(
        default=None,
        alias="from",
        max_length=120,
        description="A number or URI that the tenant may call from; without it, its first.",
    )
    ring_seconds: float | None = Field(
        default=None, ge=5, le=300, description="How long it may ring."
    )
    variables: dict[str, str] = Field(
        default={},
        max_length=MAX_VARIABLES,
        description="Values of the agent's variables in this call.",
        examples=[{"customer": "Ms Rivera"}],
    )


class CallOut(BaseModel):
    """A placed call, as far as it is."""

    model_config = ConfigDict(frozen=True)

    id: str
    state: PlacedState
    outcome: DialOutcome | None = Field(description="What came of it, once that is known.")
    ended: EndReason | None = Field(description="How an answered call ended.")
    agent: str
    to: str = Field(description="Masked.")
    sip_status: int | None = Field(description="Final status of a call that was not answered.")
    sip_reason: str | None
    answered_by: str | None = Field(
        description="The carrier's word on who answered, where it looked, e.g. `human`."
    )
    retry_after: int | None = Field(description="Seconds, where the far end said when to retry.")
    placed_at: datetime
    answered_at: datetime | None
    changed_at: datetime
    early_media_ms: int = Field(description="What was played before the answer.")
    on_hold: bool = Field(description="The far end is on hold.")
    call: str | None = Field(description="Id of its record and its entries in the audit log.")
    version: int = Field(description="Grows with every change.")

    @classmethod
    def of(cls, placed: PlacedCall) -> CallOut:
        """As it stands."""
        return cls(**{name: getattr(placed, name) for name in cls.model_fields})


class CallsApi:
    """What the routes need: who can call, and what was ordered under which idempotency key."""

    def __init__(self, outbound: Outbound, agents: Mapping[str, Agent]) -> None:
        """``agents`` by name; a key's tenant sees its own only."""
        self.outbound = outbound
        self._agents = agents
        self._tokens: OrderedDict[tuple[str, str], tuple[bytes, str]] = OrderedDict()

    def place(self, key: ApiKey, new: NewCall, token: str | None) -> PlacedCall:
        """Place it, or return the call that was placed under ``token``.

        Raises :class:`~ringtrue.agent.problems.Problem`.
        """
        digest = hashlib.sha256(new.model_dump_json().encode()).digest()
        if token is not None and (known := self._tokens.get((key.tenant, token))) is not None:
            if known[0] != digest:
                raise Problem(
                    422, "idempotency-key", "another call was placed with this Idempotency-Key"
                )
            return self.outbound.get(key.tenant, known[1])
        order = Order(
            tenant=key.tenant,
            asked_by=asker(key),
            to=new.to,
            agent=self._agent(key, new),
            caller=new.caller,
            ring_seconds=new.ring_seconds,
        )
        try:
            placed = self.outbound.place(order)
        except DialRefusedError as refusal:
            raise _problem(refusal) from None
        if token is not None:
            self._tokens[key.tenant, token] = (digest, placed.id)
            while len(self._tokens) > MAX_TOKENS:
                self._tokens.popitem(last=False)
        return placed

    def _agent(self, key: ApiKey, new: NewCall) -> Agent:
        agent = self._agents.get(new.agent)
        if agent is None or agent.tenant != key.tenant:
            raise Problem(404, "no-such-agent", f"no agent {new.agent[:80]!r}")
        if key.agent not in (API_AGENT, agent.name):
            raise Problem(403, "other-agent", f"this API key was made for the agent {key.agent!r}")
        known = ", ".join(sorted(agent.variables)) or "none"
        for name, value in new.variables.items():
            if name not in agent.variables:
                raise wrong(f"variables.{name[:80]}", name, f"the agent's variables: {known}")
            odd = not value.isprintable() or any(c in value for c in "{}<>[]")
            if odd or not 1 <= len(value) <= MAX_VALUE:
                raise wrong(
                    f"variables.{name}",
                    value,
                    f"1 to {MAX_VALUE} printable characters without braces, brackets and < >",
                )
        return with_variables(agent, new.variables)


def _problem(refusal: DialRefusedError) -> Problem:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after + 0.5)))
    return Problem(
        _STATUS.get(refusal.reason, 403),
        "call-refused",
        str(refusal),
        headers=headers,
        reason=refusal.reason.value,
    )


def _calls(request: Request) -> CallsApi:
    calls: CallsApi = request.app.state.calls
    return calls


Held = Annotated[CallsApi, Depends(_calls)]
Placer = Annotated[ApiKey, Depends(needs(ApiScope.CALL))]
CallId = Annotated[str, Path(max_length=80, description="The call's id.")]
Token = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        description="The same key with the same call places it once, however often it is sent.",
    ),
]

router = APIRouter()


@router.post("/calls", status_code=202, summary="Place a call")
async def place(
    new: NewCall,
    request: Request,
    response: Response,
    key: Placer,
    calls: Held,
    token: Token = None,
) -> CallOut:
    """Call somebody with an agent, which speaks once they answer.

    The tenant's rules decide where it may call, as whom and how much; a call they don't allow is
    refused with a `reason`. The call goes on if the connection ends; its address is in
    `Location`. Scope: `calls:place`.
    """
    placed = calls.place(key, new, token)
    path = f"{request.scope.get('root_path', '')}/calls/{placed.id}"
    response.headers.update(HEADERS | {"Location": path})
    return CallOut.of(placed)


@router.get("/calls/{call}", summary="Show a call")
async def show(
    call: CallId, response: Response, key: Placer, calls: Held, after: After = 0, wait: Wait = 0
) -> CallOut:
    """How far a placed call is, and what came of it. Scope: `calls:place`."""
    response.headers.update(HEADERS)
    return CallOut.of(await calls.outbound.wait(key.tenant, call, after, wait))


@router.delete("/calls/{call}", summary="End a call")
async def end(call: CallId, response: Response, key: Placer, calls: Held) -> CallOut:
    """Give it up, or hang up. One that is over stays as it is. Scope: `calls:place`."""
    response.headers.update(HEADERS)
    return CallOut.of(calls.outbound.cancel(key.tenant, call))


@router.post("/calls/{call}/hold", summary="Put a call on hold")
async def hold(
    call: CallId,
    response: Response,
    key: Placer,
    calls: Held,
    music: Annotated[bool, Query(description="Play music; else there is silence.")] = True,
) -> CallOut:
    """Let the called party wait; the agent goes on later where it stopped. Scope: `calls:place`."""
    response.headers.update(HEADERS)
    return CallOut.of(await calls.outbound.hold(key.tenant, call, True, music=music))


@router.post("/calls/{call}/resume", summary="Take a call off hold")
async def resume(call: CallId, response: Response, key: Placer, calls: Held) -> CallOut:
    """The agent goes on where it stopped, to the sample. Scope: `calls:place`."""
    response.headers.update(HEADERS)
    return CallOut.of(await calls.outbound.hold(key.tenant, call, False, music=False))
