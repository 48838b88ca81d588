"""The response to a request that created a session."""

from fastapi import Request, Response

from antiphon.chassis.http.routing import public_origin
from antiphon.contracts.session import Session
from antiphon.session_api.auth import caller
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.sessions.create import Created
from antiphon.session_api.sessions.schemas import CreateRequest, CreateResponse


def created_response(
    request: Request,
    created: Created,
    wanted: CreateRequest,
    *,
    status: int = 201,
    greets: bool = False,
    waited: Session | None = None,
) -> Response:
    """Return the response; with `greets` it has the greeting of the agent, as far as it is known."""
    dependencies, tenant = dependencies_of(request), caller(request).tenant
    join, session_id = dependencies.join, created.session_id
    request.state.session_id = session_id
    path = f"/v1/sessions/{session_id}"
    response = CreateResponse.model_construct(  # validated already
        session_id=session_id,
        status=created.status,
        room=session_id,
        livekit_url=join.livekit_url,
        token=join.caller_token(tenant, session_id, wanted) if created.joinable else None,
        greeting=dependencies.create.greeting(tenant, wanted, waited) if greets else None,
        events_url=f"{public_origin(request.scope, dependencies.public_url)}{path}/events",
    )
    headers = {"Location": path}
    if created.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(response.model_dump_json(), status, headers, "application/json")
