"""The HTTP interface that gives leave to call from a browser. Part of ``/v1``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ringtrue.agent.api_keys import needs
from ringtrue.agent.problems import HEADERS, Problem, wrong
from ringtrue.agent.web.router import IcePolicy
from ringtrue.config.agent_schema import Agent
from ringtrue.telephony.webrtc.access import AccessTokens
from ringtrue.voices.store.api_keys import API_AGENT, ApiKey, ApiScope

MAX_TTL: Final = 3600.0


class NewToken(BaseModel):
    """Leave to call, for one caller."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str = Field(min_length=1, max_length=80, description="Who is called.", examples=["demo"])
    ttl_seconds: float = Field(
        default=120, ge=5, le=MAX_TTL, description="How long the call may be begun with it."
    )
    origin: str | None = Field(
        default=None,
        max_length=256,
        description="The site whose pages may use it, one of `webrtc.origins`; without it any "
        "client but another site's pages.",
        examples=["https://shop.example.com"],
    )


class TokenOut(BaseModel):
    """A token, and what a browser needs besides it."""

    model_config = ConfigDict(frozen=True)

    token: str = Field(description="Good for one call. Shown once and kept nowhere.")
    agent: str
    expires_at: datetime
    offer_path: str = Field(description="Where the browser's offer is sent with it.")
    ice_servers: list[dict[str, Any]] = Field(
        description="For `RTCPeerConnection`; relay credentials in it expire."
    )
    ice_transport_policy: str
    reconnect_seconds: float


class TokenDesk:
    """What makes tokens."""

    def __init__(
        self,
        tokens: AccessTokens,
        agents: Mapping[str, Agent],
        ice: IcePolicy,
        *,
        origins: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        """``agents`` by name; a key's tenant gets tokens for its own only."""
        self._tokens = tokens
        self._agents = agents
        self._ice = ice
        self._origins = frozenset(origins)
        self._clock = clock

    def mint(self, key: ApiKey, new: NewToken) -> TokenOut:
        """A token. Raises :class:`~ringtrue.agent.problems.Problem`."""
        agent = self._agents.get(new.agent)
        if agent is None or agent.tenant != key.tenant:
            raise Problem(404, "no-such-agent", f"no agent {new.agent[:80]!r}")
        if key.agent not in (API_AGENT, agent.name):
            raise Problem(403, "other-agent", f"this API key was made for the agent {key.agent!r}")
        if new.origin is not None and new.origin not in self._origins:
            raise wrong("origin", new.origin, f"one of {', '.join(self._origins) or 'none'}")
        token, grant = self._tokens.mint(
            agent.name, agent.tenant, now=self._clock(), ttl=new.ttl_seconds, origin=new.origin
        )
        return TokenOut(
            token=token,
            agent=agent.name,
            expires_at=datetime.fromtimestamp(grant.expires, UTC),
            offer_path="/webrtc/offer",
            **self._ice.described(),
        )


def _desk(request: Request) -> TokenDesk:
    desk: TokenDesk | None = getattr(request.app.state, "webrtc_tokens", None)
    if desk is None:
        raise Problem(404, "webrtc-off", "this server takes no calls from browsers")
    return desk


router = APIRouter()


@router.post("/webrtc/tokens", status_code=201, summary="Let a browser call")
async def mint(
    new: NewToken,
    response: Response,
    key: Annotated[ApiKey, Depends(needs(ApiScope.WEBRTC))],
    desk: Annotated[TokenDesk, Depends(_desk)],
) -> TokenOut:
    """A token with which one call to one agent can be begun, once and soon.

    Ask for it from your own server and hand it to the page; the API key stays there. Scope:
    `webrtc:token`.
    """
    response.headers.update(HEADERS)
    return desk.mint(key, new)
