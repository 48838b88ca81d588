"""Request and response bodies; their docstrings and descriptions are part of the OpenAPI document."""

import re
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.session import Status

METADATA_LIMIT_BYTES = 16 * 1024
AGENT_IDENTITY = re.compile(r"^agent-", re.IGNORECASE)


def _within_limit(metadata: dict[str, Any]) -> dict[str, Any]:
    size = len(msgspec.json.encode(metadata))
    if size > METADATA_LIMIT_BYTES:
        raise ValueError(f"{size} bytes as JSON; at most {METADATA_LIMIT_BYTES} are kept")
    return metadata


def _not_an_agent(identity: str) -> str:
    if AGENT_IDENTITY.match(identity):
        raise ValueError("identities that begin with 'agent-' belong to agents")
    return identity


# No control characters: Postgres cannot store NUL.
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Metadata = Annotated[dict[str, Any], AfterValidator(_within_limit)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Identity = Annotated[Name, AfterValidator(_not_an_agent)]


class CreateRequest(BaseModel):
    """Ask for a session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    flow_id: Annotated[Name, Field(description="what the agent shall do", examples=["booking"])]
    user_id: Annotated[Name, Field(description="who will be on the call, in your words", examples=["ada"])]
    metadata: Annotated[
        Metadata | None,
        Field(
            description=f"yours; at most {METADATA_LIMIT_BYTES} bytes as JSON", examples=[{"order": "A-17"}]
        ),
    ] = None
    language: Annotated[
        Language | None, Field(description="BCP 47; the flow's own when left out", examples=["en"])
    ] = None

    def as_event(self, session_id: str, flow_revision: int) -> SessionRequested:
        """Return the request as an event."""
        return SessionRequested(
            flow_id=self.flow_id,
            flow_revision=flow_revision,
            user_id=self.user_id,
            room=session_id,
            language=self.language,
            metadata=self.metadata or {},
        )


class CreateResponse(BaseModel):
    """Hold all that a caller needs to join and to follow."""

    session_id: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    status: Annotated[Status, Field(examples=["dispatched"])]
    room: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    livekit_url: Annotated[str, Field(examples=["ws://127.0.0.1:7880"])]
    token: Annotated[
        str | None, Field(description="a LiveKit join token; null when a replayed key's session has ended")
    ]
    events_url: Annotated[
        str, Field(examples=["http://127.0.0.1:8000/v1/sessions/ses_01m7yq1we0eqq9xvayxnfetqqd/events"])
    ]


class TokenRequest(BaseModel):
    """Ask for a join token for one participant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    identity: Annotated[Identity | None, Field(description="`caller` when left out", examples=["caller"])] = (
        None
    )
    name: Annotated[Name | None, Field(description="shown to the others", examples=["Ada"])] = None
    ttl_seconds: Annotated[
        int | None, Field(ge=60, le=86_400, description="the server's setting when left out", examples=[600])
    ] = None


class TokenResponse(BaseModel):
    """Hold a join token."""

    session_id: str
    room: str
    livekit_url: str
    identity: str
    token: str
    expires_in_seconds: int


class EndResponse(BaseModel):
    """Say how far the end of a session has come."""

    session_id: str
    ended: Annotated[
        bool,
        Field(description="true when the log holds the session's end; else its agent is about to say it"),
    ]
