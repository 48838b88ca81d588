"""Request and response bodies; their docstrings and descriptions are part of the OpenAPI document."""

import re
from typing import Annotated, Any, Self

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from antiphon.chassis.validation_messages import LANGUAGE_PATTERN, NAME_PATTERN
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.session import Status
from antiphon.contracts.supervision import Role, is_supervisor_identity
from antiphon.contracts.validate import is_nested_deeper
from antiphon.contracts.views import indexed

METADATA_LIMIT_BYTES = 16 * 1024  # of metadata, and of variables
METADATA_LEVELS = 50  # of nesting; the log takes 100 with the rest of the event
LONGEST_SECONDS = 86_400  # of a limit, and of a token
AGENT_IDENTITY = re.compile(r"^agent-", re.IGNORECASE)


def _within_limit(data: dict[str, Any]) -> dict[str, Any]:
    encoded = msgspec.json.encode(data)
    if len(encoded) > METADATA_LIMIT_BYTES:
        raise ValueError(f"{len(encoded)} bytes as JSON; at most {METADATA_LIMIT_BYTES} are allowed")
    if is_nested_deeper(encoded.decode(), METADATA_LEVELS):
        raise ValueError(f"nested deeper than {METADATA_LEVELS} levels")
    return data


def _not_an_agent(identity: str) -> str:
    if AGENT_IDENTITY.match(identity):
        raise ValueError("identities that begin with 'agent-' are reserved for agents")
    if is_supervisor_identity(identity):
        raise ValueError("identities that begin with a role and a colon are given with `role`")
    return identity


# No control characters: Postgres cannot store NUL.
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=NAME_PATTERN)]
StoredName = Annotated[str, Field(min_length=1), AfterValidator(indexed)]  # of others: any text
AgentName = Annotated[Name, Field(max_length=128)]
Data = Annotated[dict[str, Any], AfterValidator(_within_limit)]
LimitSeconds = Annotated[int, Field(ge=1, le=LONGEST_SECONDS)]
MayPublishData = Annotated[
    bool,
    Field(
        description="let the participant send data to the room: text messages (`lk.chat`), RPC, own topics; "
        "voice needs none of it"
    ),
]
Language = Annotated[str, Field(pattern=LANGUAGE_PATTERN, max_length=35)]
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
    flow_revision: Annotated[
        int | None,
        Field(ge=1, le=2**31 - 1, description="of the flow; the newest by default", examples=[1]),
    ] = None
    agent_name: Annotated[
        AgentName | None,
        Field(description="the LiveKit agent to dispatch, for one without a flow; not with `flow_id`"),
    ] = None
    user_id: Annotated[Name, Field(description="your identifier of the user", examples=["ada"])]
    conversation_id: Annotated[
        Name | None,
        Field(description="your identifier of the conversation that the session continues"),
    ] = None
    metadata: Annotated[
        Data | None,
        Field(
            description=f"your own data; at most {METADATA_LIMIT_BYTES} bytes as JSON",
            examples=[{"order": "A-17"}],
        ),
    ] = None
    variables: Annotated[
        Data | None,
        Field(
            description=f"values for the agent; at most {METADATA_LIMIT_BYTES} bytes as JSON",
            examples=[{"guest": "Ada"}],
        ),
    ] = None
    language: Annotated[
        Language | None, Field(description="BCP 47; defaults to the flow's language", examples=["en"])
    ] = None
    ttl_seconds: Annotated[
        LimitSeconds | None,
        Field(
            description="how long the agent waits in the room for the caller; then the session closes with "
            "the reason `no_caller`",
            examples=[120],
        ),
    ] = None
    max_duration_seconds: Annotated[
        LimitSeconds | None,
        Field(
            description="counted from when agent and caller are both in the room; then the agent finishes "
            "its sentence, and the session closes with the reason `max_duration`",
            examples=[1800],
        ),
    ] = None
    can_publish_data: MayPublishData = False

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
            conversation_id=self.conversation_id,
            variables=self.variables or {},
            max_duration_seconds=self.max_duration_seconds,
            ttl_seconds=self.ttl_seconds,
        )


class CreateResponse(BaseModel):
    """The created session, and what is needed to join and follow it."""

    session_id: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    status: Annotated[Status, Field(examples=["dispatched"])]
    room: Annotated[str, Field(examples=["ses_01m7yq1we0eqq9xvayxnfetqqd"])]
    livekit_url: Annotated[str, Field(examples=["ws://127.0.0.1:7880"])]
    token: Annotated[
        str | None,
        Field(description="a LiveKit join token for the caller; null if the session has ended"),
    ]
    greeting: Annotated[
        str | None,
        Field(description="what the agent says first, as far as it is known; with `wait=ready`"),
    ] = None
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
        int | None,
        Field(
            ge=60,
            le=LONGEST_SECONDS,
            description="how long the token admits to the room; defaults to the server's setting",
            examples=[600],
        ),
    ] = None
    can_publish_data: MayPublishData = False
    role: Annotated[
        Role | None,
        Field(
            description="for someone who watches the session: hidden, listens only, and gets what the flow "
            "does as data messages with the topic `flow-events`; it needs the scope `supervise`, gets an "
            "identity of its own, and is on record",
            examples=["supervisor"],
        ),
    ] = None
    barge: Annotated[
        bool, Field(description="let a `supervisor` or `admin` speak; everyone in the room sees them then")
    ] = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.role is not None and self.identity is not None:
            raise ValueError("a role gets an identity of its own: leave out `identity`")
        if self.role is not None and self.can_publish_data:
            raise ValueError("who has a role sends no data: leave out `can_publish_data`")
        if self.barge and self.role not in ("supervisor", "admin"):
            raise ValueError("only the roles supervisor and admin can barge")
        return self


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
