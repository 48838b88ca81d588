"""The routes of /v1/keys, for keys with the scope `admin`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator

from antiphon.contracts.api_keys import KEY_ID_PATTERN, ApiKey, Scope
from antiphon.session_api.api_route import AdminRoute
from antiphon.session_api.auth import actor_of, caller
from antiphon.session_api.dependencies import Dependencies, dependencies_of
from antiphon.session_api.key_docs import CREATE_KEY, GET_KEY, LIST_KEYS, REVOKE_KEY, ROTATE_KEY
from antiphon.session_api.keys.records import KeyRecord
from antiphon.session_api.keys.schemas import (
    LONGEST_LIFE_SECONDS,
    CreatedKey,
    CreateKeyRequest,
    KeyView,
    Limits,
    RevokeKeyRequest,
    RotateKeyRequest,
    Tenant,
    view_fields,
)
from antiphon.session_api.keys.store import KEYS_PER_TENANT, KeyConflict, TooManyKeys
from antiphon.session_api.pagination import Limit, PageCursor, decode_name_cursor, encode_name_cursor, page
from antiphon.session_api.problems import Problem, invalid

keys = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=AdminRoute)

log = structlog.get_logger(__name__)

_key_id = re.compile(KEY_ID_PATTERN)
_UNDATED = datetime.fromtimestamp(0, UTC)  # a record without its time of creation


def _unknown_key() -> Problem:
    return Problem(404, "unknown-key", "There is no such API key.")


def valid_key_id(key_id: str) -> str:
    """Return the id.

    Raises Problem 404 for a text that cannot be one.
    """
    if _key_id.fullmatch(key_id) is None:
        raise _unknown_key()
    return key_id


PathKeyId = Annotated[
    str,
    Path(
        description="the id of an API key",
        examples=["key_01m7yq1we0eqq9xvayxnfetqqd"],
        # Only documented: an id of another form is unknown (404), like one that does not exist.
        json_schema_extra={"pattern": KEY_ID_PATTERN},
    ),
    AfterValidator(valid_key_id),
]


@keys.post("", status_code=201, response_model=CreatedKey, **CREATE_KEY)
async def create_key(request: Request, body: CreateKeyRequest) -> Response:
    """Create an API key; its secret is in this response only."""
    dependencies, by = dependencies_of(request), caller(request)
    tenant = body.tenant or by.tenant
    require_tenant(by, tenant)
    _require_limits(dependencies, by, body.limits)
    wanted = ApiKey(
        tenant=tenant,
        name=body.name,
        scopes=frozenset(body.scopes),
        expires_at=_expiry(body, dependencies.clock()),
        limits=None if body.limits is None else body.limits.as_record(),
    )
    try:
        secret, key = await dependencies.key_store.create(wanted, actor_of(request))
    except TooManyKeys as error:
        raise _too_many(error) from error
    log.info("keys.created", key_id=key.id, tenant=key.tenant, scopes=sorted(key.scopes), by=by.id)
    return _with_secret(dependencies, key, secret)


@keys.get("", **LIST_KEYS)
async def list_keys(
    request: Request,
    tenant: Annotated[Tenant | None, Query(description="only an operator's key may name another")] = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> Response:
    """List API keys, newest first: those of the caller's tenant, and of all for an operator's key."""
    dependencies, by = dependencies_of(request), caller(request)
    if tenant is not None:
        require_tenant(by, tenant)
    elif not by.operator:
        tenant = by.tenant
    found = sorted(
        (record for record in dependencies.keys.all() if tenant in {None, record.key.tenant}),
        key=lambda record: (record.key.created_at or _UNDATED, record.key.id),
        reverse=True,
    )
    start = 0
    if cursor is not None:
        last = decode_name_cursor("keys", cursor)
        start = 1 + next((at for at, record in enumerate(found) if record.key.id == last), -2)
        if start < 0:
            message = "its key was forgotten: start again without a cursor"
            raise invalid("cursor", "query", message, "invalid_cursor")
    shown = found[start : start + limit]
    more = encode_name_cursor("keys", shown[-1].key.id) if len(found) > start + limit else None
    return page("keys", (_view(dependencies, record.digest, record.key) for record in shown), more)


@keys.get("/{key_id}", response_model=KeyView, **GET_KEY)
async def get_key(request: Request, key_id: PathKeyId) -> Response:
    """Return one API key, without its secret."""
    dependencies = dependencies_of(request)
    found = _found(dependencies, caller(request), key_id)
    return _json(_view(dependencies, found.digest, found.key))


@keys.post("/{key_id}/rotate", status_code=201, response_model=CreatedKey, **ROTATE_KEY)
async def rotate_key(request: Request, key_id: PathKeyId, body: RotateKeyRequest | None = None) -> Response:
    """Replace an API key by a new one with another secret; the old one stays valid for the overlap."""
    dependencies, by = dependencies_of(request), caller(request)
    old = _changeable(dependencies, by, key_id)
    overlap = timedelta(seconds=(body or RotateKeyRequest()).overlap_seconds)
    try:
        secret, key = await dependencies.key_store.rotate(old, overlap, actor_of(request))
    except KeyConflict as error:
        raise _conflict(error) from error
    except TooManyKeys as error:
        raise _too_many(error) from error
    log.info("keys.rotated", key_id=key_id, tenant=key.tenant, replaced_by=key.id, by=by.id)
    return _with_secret(dependencies, key, secret)


@keys.post("/{key_id}/revoke", response_model=KeyView, **REVOKE_KEY)
async def revoke_key(request: Request, key_id: PathKeyId, body: RevokeKeyRequest | None = None) -> Response:
    """Revoke an API key at once and permanently; repeating the request changes nothing."""
    dependencies, by = dependencies_of(request), caller(request)
    found = _changeable(dependencies, by, key_id)
    store = dependencies.key_store
    try:
        if (body or RevokeKeyRequest()).force or Scope.ADMIN not in found.key.scopes:
            revoked = await store.revoke(found.digest, actor_of(request))
        else:
            async with store.exclusively(found.key.tenant):  # two admins may revoke each other
                _require_another_admin(dependencies, found)
                revoked = await store.revoke(found.digest, actor_of(request))
    except KeyConflict as error:
        raise _conflict(error) from error
    log.info("keys.revoked", key_id=key_id, tenant=revoked.tenant, by=by.id)
    return _json(_view(dependencies, found.digest, revoked))


def _found(dependencies: Dependencies, by: ApiKey, key_id: str) -> KeyRecord:
    found = dependencies.keys.with_id(key_id)
    if found is None or not (by.operator or found.key.tenant == by.tenant):
        raise _unknown_key()
    return found


def _changeable(dependencies: Dependencies, by: ApiKey, key_id: str) -> KeyRecord:
    found = _found(dependencies, by, key_id)
    if found.key.operator and not by.operator:  # its new secret would manage every tenant
        raise Problem(403, "operator-key", "Only an operator's key may change the key of an operator.")
    return found


def require_tenant(by: ApiKey, tenant: str) -> None:
    """Require a tenant to be the caller's own, unless that is an operator.

    Raises Problem 403, whether there is such a tenant or not.
    """
    if tenant != by.tenant and not by.operator:
        detail = f"This API key manages the keys of the tenant {by.tenant} only."
        raise Problem(403, "foreign-tenant", detail, tenant=tenant)


def _require_limits(dependencies: Dependencies, by: ApiKey, limits: Limits | None) -> None:
    if limits is None or by.operator:
        return
    allowed = {
        "requests_per_second": (limits.requests_per_second, dependencies.limits.requests.per_second),
        "streams": (limits.streams, dependencies.limits.streams.per_key),
    }
    for name, (wanted, most) in allowed.items():
        if wanted is not None and most and wanted > most:
            message = f"is above the server's limit of {most}, which only an operator's key may raise"
            raise invalid(f"limits.{name}", "body", message, "above_limit")


def _require_another_admin(dependencies: Dependencies, found: KeyRecord) -> None:
    now, key = dependencies.clock(), found.key
    if not key.usable(now):
        return
    others = (
        record.key
        for record in dependencies.keys.all()
        if record.digest != found.digest and record.key.tenant == key.tenant
    )
    if not any(
        Scope.ADMIN in other.scopes and other.usable(now) and other.operator >= key.operator
        for other in others
    ):
        kind, instead = (
            ("operator's key", "Rotate it instead")  # a key that is created is never an operator's
            if key.operator
            else ("key", "Create another one first")
        )
        detail = (
            f"This is the last {kind} of the tenant {key.tenant} with the scope admin. "
            f'{instead}, or send {{"force": true}}.'
        )
        raise Problem(409, "last-admin-key", detail)


def _expiry(body: CreateKeyRequest, now: datetime) -> datetime | None:
    if body.expires_in_seconds is not None:
        if body.expires_at is not None:
            raise invalid("expires_in_seconds", "body", "not together with expires_at", "not_together")
        return now + timedelta(seconds=body.expires_in_seconds)
    if body.expires_at is not None:
        if not now < body.expires_at <= now + timedelta(seconds=LONGEST_LIFE_SECONDS):
            raise invalid("expires_at", "body", "must be in the next ten years", "out_of_range")
        return body.expires_at.astimezone(UTC)
    return None


def _too_many(error: TooManyKeys) -> Problem:
    return Problem(
        429,
        "quota-exceeded",
        f"{str(error).capitalize()}; revoke one first.",
        retry_after_seconds=60,
        quota="keys",
        limit=KEYS_PER_TENANT,
    )


def _conflict(error: KeyConflict) -> Problem:
    return Problem(409, "key-conflict", f"The API key cannot be changed: {error}.")


def _view(dependencies: Dependencies, digest: str, key: ApiKey) -> str:
    fields = view_fields(key, dependencies.clock(), dependencies.key_usage.used_at(digest))
    return KeyView.model_construct(None, **fields).model_dump_json()


def _with_secret(dependencies: Dependencies, key: ApiKey, secret: str) -> Response:
    fields = view_fields(key, dependencies.clock(), None)
    body = CreatedKey.model_construct(None, **fields, secret=secret).model_dump_json()
    return _json(body, 201, {"Location": f"/v1/keys/{key.id}", "Cache-Control": "no-store"})


def _json(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
