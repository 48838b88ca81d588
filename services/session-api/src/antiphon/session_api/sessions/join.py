"""Join tokens for LiveKit, signed locally for sessions that have not ended."""

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import orjson

from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.contracts.api_keys import ApiKey
from antiphon.contracts.events.command import CommandRequested
from antiphon.contracts.session import Session
from antiphon.contracts.supervision import SUPERVISE, Role
from antiphon.session_api.livekit import LiveKitError, dispatch_metadata
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.events import EventPublisher
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.room import Rooms, livekit_problem, room_is_current, room_name
from antiphon.session_api.sessions.schemas import CreateRequest, TokenRequest, TokenResponse

CALLER = "caller"


def _segment(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


_HEADER = _segment(b'{"alg":"HS256","typ":"JWT"}')


class JoinTokens:
    """Signer of LiveKit join tokens.

    A token repeats the agent dispatch of the room: if the room has expired before the caller joins,
    LiveKit creates it again and dispatches an agent; while the room exists, LiveKit ignores it.
    """

    def __init__(self, keys: LiveKitKeys, *, deployment: str, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._deployment = deployment
        self._now = now

    def sign(
        self,
        session_id: str,
        tenant: str,
        *,
        room: str,
        agent_name: str | None,
        identity: str,
        ttl_seconds: int,
        name: str | None = None,
        can_publish_data: bool = False,
        role: Role | None = None,
        barge: bool = False,
    ) -> str:
        """Return a token that admits `identity` to the room only, and dispatches `agent_name` to it.

        The participant may speak and listen; it may not change what others see of it, which LiveKit attaches
        to its messages. With a role nobody sees it, and it only listens, unless it may `barge`.
        """
        now = int(self._now())
        pair = self._keys.current
        metadata = dispatch_metadata(session_id, tenant, self._deployment)
        claims: dict[str, Any] = {
            "iss": pair.key,
            "sub": identity,
            "nbf": now - 5,  # tolerates a LiveKit clock that is slightly behind
            "exp": now + ttl_seconds,
            "video": {
                "roomJoin": True,
                "room": room,
                "canPublish": role is None or barge,
                "canSubscribe": True,
                "canPublishData": can_publish_data,
                "canUpdateOwnMetadata": False,
                "hidden": role is not None and not barge,
            },
        }
        if role is not None:
            claims["metadata"] = orjson.dumps({"role": role}).decode()
        if agent_name is not None:
            claims["roomConfig"] = {
                "metadata": metadata,
                "agents": [{"agentName": agent_name, "metadata": metadata}],
            }
        if name is not None:
            claims["name"] = name
        # RFC 7515 by hand: a JWT library prepares the key for every token, at five times the cost.
        signed = _HEADER + b"." + _segment(orjson.dumps(claims))
        return (signed + b"." + _segment(hmac.digest(pair.secret.encode(), signed, "sha256"))).decode()


class JoinSession:
    """Join tokens for sessions that have not ended."""

    def __init__(
        self,
        lookup: Lookup,
        tokens: JoinTokens,
        rooms: Rooms,
        publisher: EventPublisher,
        *,
        agent_name: str,
        livekit_url: str,
        ttl_seconds: int,
    ) -> None:
        self._lookup = lookup
        self._tokens = tokens
        self._rooms = rooms
        self._publisher = publisher
        self._agent_name = agent_name  # of the agent that runs flows
        self.livekit_url = livekit_url
        self._ttl_seconds = ttl_seconds

    def caller_token(self, tenant: str, session_id: str, request: CreateRequest) -> str:
        """Return the caller's token for a session that was just created: good for as long as it waits."""
        return self._tokens.sign(
            session_id,
            tenant,
            room=session_id,
            agent_name=request.agent_name or self._agent_name,
            identity=CALLER,
            ttl_seconds=max(self._ttl_seconds, request.ttl_seconds or 0),
            can_publish_data=request.can_publish_data,
        )

    async def token(self, key: ApiKey, session_id: str, request: TokenRequest) -> TokenResponse:
        """Return a token for one participant.

        Raises Problem: 404 for an unknown session, 409 for one that has ended, or whose adopted room has;
        502 and 503 when LiveKit cannot say whether it has, or the broker is away.
        """
        tenant = key.tenant
        session = await self._lookup.outline(tenant, session_id)
        if session.ended:
            raise Problem(
                409,
                "session-ended",
                f"The session is {session.status}; it can no longer be joined.",
                session_id=session_id,
            )
        await self._require_room(session)
        room = room_name(session)
        identity = request.identity or (CALLER if request.role is None else f"{request.role}:{token_hex(8)}")
        ttl_seconds = request.ttl_seconds or self._ttl_seconds
        token = self._tokens.sign(
            session_id,
            tenant,
            room=room,
            # the agent of an adopted room came by itself
            agent_name=session.agent_name or self._agent_name if room == session_id else None,
            identity=identity,
            name=request.name,
            ttl_seconds=ttl_seconds,
            can_publish_data=request.can_publish_data,
            role=request.role,
            barge=request.barge,
        )
        if request.role is not None:
            await self._admit(key, session, identity, request)
        return TokenResponse(
            session_id=session_id,
            room=room,
            livekit_url=self.livekit_url,
            identity=identity,
            token=token,
            expires_in_seconds=ttl_seconds,
        )

    async def _admit(self, key: ApiKey, session: Session, identity: str, request: TokenRequest) -> None:
        """Write down who may listen: the agent tells them what the flow does, and only them."""
        arguments = {"identity": identity, "role": request.role, "barge": request.barge}
        command_id = f"{SUPERVISE}:{identity}"
        command = CommandRequested(
            command_id=command_id, verb=SUPERVISE, actor=key.actor, arguments=arguments
        )
        event_id = f"{session.session_id}:command:{command_id}"
        number = session.dispatch_attempts + 1
        await self._publisher.publish(
            key.tenant, session.session_id, command, event_id=event_id, number=number
        )

    async def _require_room(self, session: Session) -> None:
        try:
            current = await room_is_current(self._rooms, session)
        except LiveKitError as error:
            detail = "LiveKit does not say whether the session's room still exists."
            raise livekit_problem(session.session_id, error, detail) from error
        if not current:
            raise Problem(
                409,
                "room-ended",
                "The room of this session has ended; it can no longer be joined.",
                session_id=session.session_id,
            )
