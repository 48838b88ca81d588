"""LiveKit's room service: create, find and delete the room of a session."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

import aiohttp
import orjson
from google.protobuf.message import Message
from livekit import api
from livekit.api.twirp_client import ServerError, TwirpClient
from livekit.protocol.models import Room

from antiphon.chassis.livekit_keys import KeyPair, LiveKitKeys
from antiphon.chassis.settings import http_url
from antiphon.chassis.tracing import calling, current_traceparent

TOKEN_TTL_SECONDS = 600
EMPTY_TIMEOUT_SECONDS = 300
DEPARTURE_TIMEOUT_SECONDS = 20

# Errors that a retry may fix: no connection, no response in time, an overloaded or failing server.
TRANSIENT: tuple[type[Exception], ...] = (TimeoutError, aiohttp.ClientError)
TRANSIENT_STATUSES = frozenset({429, *range(500, 600)})
# LiveKit has closed an idle connection of the pool: one immediate retry opens a new one.
STALE_CONNECTION = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)

MessageT = TypeVar("MessageT", bound=Message)


class LiveKitError(Exception):
    """A request to LiveKit failed."""

    retryable: bool


class LiveKitUnavailable(LiveKitError):
    """LiveKit is down, overloaded or too slow; a retry may succeed."""

    retryable = True


class LiveKitRefused(LiveKitError):
    """LiveKit rejected the request, as with wrong credentials; a retry cannot succeed."""

    retryable = False


def dispatch_metadata(session_id: str, tenant: str, deployment: str, traceparent: str | None = None) -> str:
    """Return the metadata of room, job and token; callers can read it, so it holds no secrets.

    That of the job has the trace that it continues.
    """
    metadata = {"session_id": session_id, "tenant": tenant, "deployment": deployment}
    if traceparent is not None:
        metadata["traceparent"] = traceparent
    return orjson.dumps(metadata).decode()


_calling = partial(calling, "twirp", "livekit.RoomService")


class LiveKit:
    """A client of LiveKit's room service."""

    def __init__(
        self,
        url: str,
        keys: LiveKitKeys,
        *,
        deployment: str,
        timeout_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        # Passed to every call: TwirpClient's default of None would override the timeout of the session.
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._twirp = TwirpClient(self._http, http_url(url), "livekit", failover=False)
        self._deployment = deployment
        self._keys = keys
        self._signed_by: KeyPair | None = None
        self._now = now
        self._authorization: dict[str, str] = {}
        self._renew_at = float("-inf")

    async def create_room(
        self, session_id: str, tenant: str, agent_name: str, *, ttl_seconds: int | None = None
    ) -> str:
        """Create the session's room with the dispatch of an agent, and return its sid.

        Idempotent: an existing room is not changed. The room stays open as long as its agent waits for the
        caller, `ttl_seconds`.
        Raises LiveKitUnavailable, LiveKitRefused.
        """
        with _calling("CreateRoom"):
            for_job = dispatch_metadata(session_id, tenant, self._deployment, current_traceparent())
            request = api.CreateRoomRequest(
                name=session_id,
                empty_timeout=max(EMPTY_TIMEOUT_SECONDS, (ttl_seconds or 0) + DEPARTURE_TIMEOUT_SECONDS),
                departure_timeout=DEPARTURE_TIMEOUT_SECONDS,
                metadata=dispatch_metadata(session_id, tenant, self._deployment),
                agents=[api.RoomAgentDispatch(agent_name=agent_name, metadata=for_job)],
            )
            room = await self._call("CreateRoom", request, Room)
        return room.sid

    async def delete_room(self, room: str) -> None:
        """Delete a room and disconnect its participants; a missing room is no error.

        Raises LiveKitUnavailable, LiveKitRefused.
        """
        try:
            with _calling("DeleteRoom"):
                await self._call("DeleteRoom", api.DeleteRoomRequest(room=room), api.DeleteRoomResponse)
        except LiveKitRefused as refused:
            cause = refused.__cause__
            if not (isinstance(cause, ServerError) and cause.code == "not_found"):
                raise

    async def room_sid(self, room: str) -> str | None:
        """Return the sid of the room that has this name now, or None when there is none.

        Raises LiveKitUnavailable, LiveKitRefused.
        """
        with _calling("ListRooms"):
            found = await self._call("ListRooms", api.ListRoomsRequest(names=[room]), api.ListRoomsResponse)
        return next((known.sid for known in found.rooms if known.name == room), None)

    async def close(self) -> None:
        """Close the connections to LiveKit."""
        await self._http.close()

    async def _call(self, method: str, request: Message, response: type[MessageT]) -> MessageT:
        try:
            return await self._request(method, request, response)
        except ServerError as error:
            kind = LiveKitUnavailable if error.status in TRANSIENT_STATUSES else LiveKitRefused
            raise kind(f"{method}: {error.status} {error.code}: {error.message}") from error
        except TRANSIENT as error:
            timed_out = isinstance(error, TimeoutError)
            reason = f"no response within {self._timeout.total:g} s" if timed_out else str(error)
            raise LiveKitUnavailable(f"{method}: {reason}") from error

    async def _request(self, method: str, request: Message, response: type[MessageT]) -> MessageT:
        try:
            return await self._request_once(method, request, response)
        except STALE_CONNECTION as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
            return await self._request_once(method, request, response)

    async def _request_once(self, method: str, request: Message, response: type[MessageT]) -> MessageT:
        headers = self._headers()
        return await self._twirp.request(
            "RoomService", method, request, headers, response, timeout=self._timeout
        )

    def _headers(self) -> dict[str, str]:
        pair = self._keys.current
        if self._now() >= self._renew_at or pair != self._signed_by:
            self._signed_by = pair
            token = api.AccessToken(pair.key, pair.secret)
            token.with_grants(api.VideoGrants(room_create=True, room_list=True))
            token.with_ttl(timedelta(seconds=TOKEN_TTL_SECONDS))
            self._authorization = {"authorization": f"Bearer {token.to_jwt()}"}
            self._renew_at = self._now() + TOKEN_TTL_SECONDS / 2
        return self._authorization
