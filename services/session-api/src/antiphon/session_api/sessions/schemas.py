"""Request and response bodies; their docstrings and descriptions are part of the OpenAPI document."""

import re
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.session import Status
from antiphon.contracts.validate import is_nested_deeper
from antiphon.contracts.views import indexed

METADATA_LIMIT_BYTES = 16 * 1024
METADATA_LEVELS = 50  # of nesting; the log takes 100 with the rest of the event
AGENT_IDENTITY = re.compile(r"^agent-", re.IGNORECASE)


def _within_limit(metadata: dict[str, Any]) -> dict[str, Any]:
    encoded = msgspec.json.encode(metadata)
    if len(encoded) > METADATA_LIMIT_BYTES:
        raise ValueError(f"{len(encoded)} bytes as JSON; at most {METADATA_LIMIT_BYTES} are allowed")
    if is_nested_deeper(encoded.decode(), METADATA_LEVELS):
        raise ValueError(f"nested deeper than {METADATA_LEVELS} levels")
    return metadata


def _not_an_agent(identity: str) -> str:
    if AGENT_IDENTITY.match(identity):
        raise ValueError("identities that begin with 'agent-' are reserved for agents")
    return identity


# No control characters: Postgres cannot store NUL.
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
StoredName = Annotated[str, Field(min_length=1), AfterValidator(indexed)]  # of others: any text
AgentName = Annotated[Name, Field(max_length=128)]
Metadata = Annotated[dict[str, Any], AfterValidator(_within_limit)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Identity = Annotated[Name, AfterValidator(_not_an_agent)]


class CreateRequest(BaseModel):
    """A request to create a session."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"oneOf": [{"required": ["flow_id"]}, {"required": ["agent_name"]}]},
    )

    flow_id: Annotated[
        Name | None,
        Field(description="the flow that the agent runs; not with `agent_name`", examples=["booking"]),
    ] = None
    agent_name: Annotated[
        AgentName | None,
        Field(description="the LiveKit agent to dispatch, for one without a flow; not with `flow_id`"),
    ] = None
    user_id: Annotated[Name, Field(description="your identifier of the user", examples=["ada"])]
    metadata: Annotated[
        Metadata | None,
        Field(
            description=f"your own data; at most {METADATA_LIMIT_BYTES} bytes as JSON",
            examples=[{"order": "A-17"}],
        ),
    ] = None
    language: Annotated[
        Language | None, Field(description="BCP 47; defaults to the flow's language", examples=["en"])
    ] = None

    def as_event(self, session_id: str, flow_revision: int) -> SessionRequested:
        """Return the request as an event."""
        return SessionRequested(
            flow_id=self.flow_id or "",
            flow_revision=flow_revision,
            user_id=self.user_id,
            room=session_id,
            agent_name=self.agent_name,
            language=self.language,
            metadata=self.metadata or {},
        )


class CreateResponse(BaseModel):
    """The created session, and what is needed to join and follow it."""

    session_id: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    status: Annotated[Status, Field(examples=["dispatched"])]
    room: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    livekit_url: Annotated[str, Field(examples=["ws://127.0.0.1:7880"])]
    token: Annotated[
        str | None,
        Field(description="a LiveKit join token; null if a replayed session has ended"),
    ]
    events_url: Annotated[
        str, Field(examples=["http://127.0.0.1:8000/v1/sessions/ses_01m7yq1we0eqq9xvayxnfetqqd/events"])
    ]


class TokenRequest(BaseModel):
    """A request for a join token for one participant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    identity: Annotated[Identity | None, Field(description="defaults to `caller`", examples=["caller"])] = (
        None
    )
    name: Annotated[Name | None, Field(description="the participant's display name", examples=["Ada"])] = None
    ttl_seconds: Annotated[
        int | None, Field(ge=60, le=86_400, description="defaults to the server's setting", examples=[600])
    ] = None


class TokenResponse(BaseModel):
    """A join token for one participant."""

    session_id: str
    room: str
    livekit_url: str
    identity: str
    token: str
    expires_in_seconds: int


class EndResponse(BaseModel):
    """The result of a request to end a session."""

    session_id: str
    ended: Annotated[
        bool,
        Field(description="true if the session has ended; false if its agent will still publish the end"),
    ]
