"""LiveKit's room service, as little of it as a session needs."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import aiohttp
from google.protobuf.message import Message
from livekit import api
from livekit.api.twirp_client import ServerError, TwirpClient
from livekit.protocol.models import Room

from antiphon.session_api.tokens import dispatch_metadata

TOKEN_TTL_SECONDS = 600
EMPTY_TIMEOUT_SECONDS = 300
DEPARTURE_TIMEOUT_SECONDS = 20

MessageT = TypeVar("MessageT", bound=Message)


class LiveKitError(Exception):
    """LiveKit did not do what it was asked."""

    retryable: bool


class LiveKitUnavailable(LiveKitError):
    """LiveKit is away, overloaded or too slow; a retry may help."""

    retryable = True


class LiveKitRefused(LiveKitError):
    """LiveKit understood and refused, as with wrong credentials; a retry cannot help."""

    retryable = False


class LiveKit:
    """Make and delete rooms."""

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        *,
        agent_name: str,
        timeout_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        # Given to every call: TwirpClient hands its own None on, which overrules the session's timeout.
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._twirp = TwirpClient(self._http, url, "livekit", failover=False)
        self._api_key = api_key
        self._api_secret = api_secret
        self._agent_name = agent_name
        self._now = now
        self._authorization: dict[str, str] = {}
        self._renew_at = float("-inf")

    async def create_room(self, session_id: str, tenant: str) -> str:
        """Make the session's room, which asks for the agent, and return its sid.

        On a live room this changes nothing, so it may be repeated.
        Raises LiveKitUnavailable, LiveKitRefused.
        """
        metadata = dispatch_metadata(session_id, tenant)
        request = api.CreateRoomRequest(
            name=session_id,
            empty_timeout=EMPTY_TIMEOUT_SECONDS,
            departure_timeout=DEPARTURE_TIMEOUT_SECONDS,
            metadata=metadata,
            agents=[api.RoomAgentDispatch(agent_name=self._agent_name, metadata=metadata)],
        )
        room = await self._call("CreateRoom", request, Room)
        return room.sid

    async def delete_room(self, session_id: str) -> None:
        """Delete the session's room and send everyone out; a room that is not there is fine.

        Raises LiveKitUnavailable, LiveKitRefused.
        """
        try:
            await self._call("DeleteRoom", api.DeleteRoomRequest(room=session_id), api.DeleteRoomResponse)
        except LiveKitRefused as refused:
            cause = refused.__cause__
            if not (isinstance(cause, ServerError) and cause.code == "not_found"):
                raise

    async def close(self) -> None:
        """Close the connections to LiveKit."""
        await self._http.close()

    async def _call(self, method: str, request: Message, answer: type[MessageT]) -> MessageT:
        try:
            return await self._ask(method, request, answer)
        except ServerError as error:
            kind = LiveKitUnavailable if error.status >= 500 or error.status == 429 else LiveKitRefused
            raise kind(f"{method}: {error.status} {error.code}: {error.message}") from error
        except TimeoutError as error:
            raise LiveKitUnavailable(f"{method}: no answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientError as error:
            raise LiveKitUnavailable(f"{method}: {error}") from error

    async def _ask(self, method: str, request: Message, answer: type[MessageT]) -> MessageT:
        try:
            return await self._ask_once(method, request, answer)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
            # An idle connection that LiveKit had closed meanwhile: ask once more, on a new one.
            return await self._ask_once(method, request, answer)

    async def _ask_once(self, method: str, request: Message, answer: type[MessageT]) -> MessageT:
        headers = self._headers()
        return await self._twirp.request(
            "RoomService", method, request, headers, answer, timeout=self._timeout
        )

    def _headers(self) -> dict[str, str]:
        if self._now() >= self._renew_at:
            token = api.AccessToken(self._api_key, self._api_secret)
            token.with_grants(api.VideoGrants(room_create=True))
            token.with_ttl(timedelta(seconds=TOKEN_TTL_SECONDS))
            self._authorization = {"authorization": f"Bearer {token.to_jwt()}"}
            self._renew_at = self._now() + TOKEN_TTL_SECONDS / 2
        return self._authorization
