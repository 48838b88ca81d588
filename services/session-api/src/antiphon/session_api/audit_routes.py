"""The route of /v1/audit, for keys with the scope `admin`."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from antiphon.contracts.audit import ActKind
from antiphon.session_api.api_route import AdminRoute
from antiphon.session_api.audit_records import Wanted
from antiphon.session_api.auth import caller
from antiphon.session_api.components import reference
from antiphon.session_api.dependencies import dependencies_of
from antiphon.session_api.instants import Instant
from antiphon.session_api.key_routes import require_tenant
from antiphon.session_api.keys.schemas import Tenant
from antiphon.session_api.pagination import Limit, PageCursor, decode_name_cursor, encode_name_cursor, page
from antiphon.session_api.problems import invalid
from antiphon.session_api.route_docs import answer, route

audit = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=AdminRoute)

_EXAMPLE = {
    "id": "aud_01m7yq1we0eqq9xvayxnfetqqd",
    "at": "2026-11-21T09:30:00Z",
    "tenant": "default",
    "kind": "key.create",
    "actor": "key:key_01m7yq1we0eqq9xvayxnfetqqd",
    "target": "key_01m7yq4a1reh3bqj8f2ka3xk7c",
    "details": {"scopes": "sessions:read sessions:write"},
    "address": "203.0.113.7",
    "request_id": "req_8f1f30f3d3f7c0a1b2c3d4e5",
    "trace_id": None,
    "outcome": "done",
    "outcome_at": "2026-11-21T09:30:00.004Z",
    "reason": None,
}
LIST_AUDIT = route(
    {
        200: answer(
            "A page of records, in the order in which they were stored; it may be short and have more",
            reference("AuditList"),
            {"audit": [_EXAMPLE], "next": None},
        )
    },
    "foreign-tenant",
    "broker-unavailable",
)


@audit.get("", **LIST_AUDIT)
async def list_audit(
    request: Request,
    tenant: Annotated[Tenant | None, Query(description="only an operator's key may name another")] = None,
    kind: Annotated[list[ActKind] | None, Query(description="may be repeated: any of them")] = None,
    actor: Annotated[str | None, Query(max_length=256, description="who did it, as it is shown")] = None,
    since: Annotated[Instant | None, Query(description="at this time or later")] = None,
    until: Annotated[Instant | None, Query(description="before this time")] = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """List who changed API keys and flows, and what was erased, of the last 400 days, oldest first.

    It shows the acts on the caller's tenant, and to an operator's key those on every tenant.
    """
    by = caller(request)
    if tenant is not None:
        require_tenant(by, tenant)
    elif not by.operator:
        tenant = by.tenant
    if since is not None and until is not None and since > until:
        raise invalid("since", "query", "is later than until", "wrong_order")
    wanted = Wanted(tenant, frozenset(kind or ()), actor, since, until, by.operator)
    after = None if cursor is None else decode_name_cursor("audit", cursor)
    found = await dependencies_of(request).audit.page(wanted, after, limit)
    more = None if found.following is None else encode_name_cursor("audit", found.following)
    return page("audit", map(msgspec.json.encode, found.entries), more)
