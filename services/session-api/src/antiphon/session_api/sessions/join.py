"""Let somebody into a session that has not ended."""

from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.schemas import TokenRequest, TokenResponse
from antiphon.session_api.tokens import JoinTokens

CALLER = "caller"


class JoinSession:
    """Hand out join tokens."""

    def __init__(self, lookup: Lookup, tokens: JoinTokens, *, livekit_url: str, ttl_seconds: int) -> None:
        self._lookup = lookup
        self._tokens = tokens
        self.livekit_url = livekit_url
        self._ttl_seconds = ttl_seconds

    def caller_token(self, tenant: str, session_id: str) -> str:
        """Return the token of the caller of a session that was just made."""
        return self._tokens.sign(session_id, tenant, identity=CALLER, ttl_seconds=self._ttl_seconds)

    async def token(self, tenant: str, session_id: str, request: TokenRequest) -> TokenResponse:
        """Return a token for one participant.

        Raises Problem 404, and 409 when the session has ended.
        """
        session = await self._lookup.outline(tenant, session_id)
        if session.ended:
            raise Problem(
                409,
                "session-ended",
                f"The session is {session.status}; nobody can join it any more.",
                session_id=session_id,
            )
        identity = request.identity or CALLER
        ttl_seconds = request.ttl_seconds or self._ttl_seconds
        token = self._tokens.sign(
            session_id, tenant, identity=identity, name=request.name, ttl_seconds=ttl_seconds
        )
        return TokenResponse(
            session_id=session_id,
            room=session_id,
            livekit_url=self.livekit_url,
            identity=identity,
            token=token,
            expires_in_seconds=ttl_seconds,
        )
