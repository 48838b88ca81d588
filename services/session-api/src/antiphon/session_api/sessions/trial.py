"""The request for a test session of a flow; its texts are part of the OpenAPI document."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from antiphon.session_api.sessions.schemas import (
    CreateRequest,
    Data,
    Language,
    LimitSeconds,
    MayPublishData,
    Name,
)

TEST_USER = "test"


class TrialRequest(BaseModel):
    """A request for a test session: of a draft, of a revision, or of the newest revision."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[
        str | None,
        Field(min_length=1, description="the text of a flow that is not published; not with `revision`"),
    ] = None
    revision: Annotated[int | None, Field(ge=1, le=2**31 - 1, description="of the flow", examples=[1])] = None
    user_id: Annotated[Name, Field(description="your identifier of who tries it", examples=["ada"])] = (
        TEST_USER
    )
    metadata: Annotated[
        Data | None, Field(description="as that of a session", examples=[{"order": "A-17"}])
    ] = None
    variables: Annotated[Data | None, Field(description="as those of a session")] = None
    language: Annotated[Language | None, Field(description="BCP 47", examples=["en"])] = None
    ttl_seconds: Annotated[
        LimitSeconds | None, Field(description="how long the agent waits for the caller", examples=[120])
    ] = None
    max_duration_seconds: Annotated[
        LimitSeconds | None, Field(description="how long the call may last", examples=[600])
    ] = None
    can_publish_data: MayPublishData = False

    def as_create(self, flow_id: str) -> CreateRequest:
        """Return the request of the session."""
        fields = self.model_dump(exclude={"source", "revision"})
        return CreateRequest(flow_id=flow_id, flow_revision=self.revision, **fields)
