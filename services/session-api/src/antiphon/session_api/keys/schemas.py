"""Request and response bodies of /v1/keys; their docstrings and descriptions are in the OpenAPI document."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from antiphon.contracts.api_keys import KEY_ID_PATTERN, KEY_NAME_PATTERN, ApiKey, KeyLimits, Scope
from antiphon.contracts.ids import TENANT_PATTERN

DAY_SECONDS = 86_400
LONGEST_LIFE_SECONDS = 3650 * DAY_SECONDS
LONGEST_OVERLAP_SECONDS = 7 * DAY_SECONDS

_ID = "key_01m7yq1we0eqq9xvayxnfetqqd"


class KeyStatus(StrEnum):
    """Whether a key opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("takes a text")  # noqa: TRY004 - pydantic reports a ValueError
    return value


def _distinct(scopes: list[Scope]) -> list[Scope]:
    return sorted(set(scopes))


KeyId = Annotated[str, Field(pattern=KEY_ID_PATTERN, examples=[_ID])]
KeyName = Annotated[str, Field(pattern=KEY_NAME_PATTERN, examples=["ci"])]
Tenant = Annotated[str, Field(pattern=TENANT_PATTERN, examples=["default"])]
Scopes = Annotated[
    list[Annotated[Scope, Field(strict=False)]],
    Field(min_length=1, max_length=len(Scope), examples=[["sessions:read", "sessions:write"]]),
    AfterValidator(_distinct),
]
Moment = Annotated[AwareDatetime, BeforeValidator(_text), Field(strict=False)]


class Limits(BaseModel):
    """Limits of one key, in place of the server's; only an operator may set higher ones than those."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests_per_second: Annotated[int | None, Field(ge=1, le=1_000_000, examples=[50])] = None
    streams: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="open at the same time", examples=[20])
    ] = None

    def as_record(self) -> KeyLimits:
        """Return the limits as the bucket holds them."""
        return KeyLimits(requests_per_second=self.requests_per_second, streams=self.streams)


class CreateKeyRequest(BaseModel):
    """A request to create an API key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[KeyName, Field(description="what the key is for; events name it as their actor")]
    scopes: Annotated[Scopes, Field(description="what the key allows; none includes another")]
    tenant: Annotated[
        Tenant | None,
        Field(description="defaults to the caller's; another one needs an operator's key"),
    ] = None
    expires_at: Annotated[
        Moment | None,
        Field(
            description="not with `expires_in_seconds`; without both, the key does not expire",
            examples=["2027-01-01T00:00:00Z"],
        ),
    ] = None
    expires_in_seconds: Annotated[int | None, Field(ge=60, le=LONGEST_LIFE_SECONDS, examples=[2_592_000])] = (
        None
    )
    limits: Limits | None = None


class RotateKeyRequest(BaseModel):
    """A request to replace an API key by one with another secret."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_seconds: Annotated[
        int,
        Field(ge=0, le=LONGEST_OVERLAP_SECONDS, description="how long the old secret stays valid"),
    ] = DAY_SECONDS


class RevokeKeyRequest(BaseModel):
    """A request to revoke an API key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    force: Annotated[bool, Field(description="revoke it even if it is the tenant's last `admin` key")] = False


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: KeyId
    tenant: Tenant
    name: Annotated[str, Field(examples=["ci"])]
    prefix: Annotated[str, Field(description="the start of the secret", examples=["ak_3vXq0"])]
    scopes: Annotated[list[str], Field(examples=[["sessions:read", "sessions:write"]])]
    status: KeyStatus
    operator: Annotated[
        bool, Field(description="with `admin`, it manages the keys of every tenant; not settable here")
    ]
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="to the minute, over all replicas")]
    rotated_from: Annotated[str | None, Field(description="the key that this one replaces")]
    replaced_by: Annotated[str | None, Field(description="the key that replaces this one")]
    limits: Limits | None


class CreatedKey(KeyView):
    """An API key with its secret, which is shown this once and stored only as a hash."""

    secret: Annotated[str, Field(examples=["ak_3vXq0lRk…"])]


def view_fields(key: ApiKey, now: datetime, last_used_at: datetime | None) -> dict[str, Any]:
    """Return the fields of a KeyView."""
    status = KeyStatus.ACTIVE
    if key.revoked_at is not None:
        status = KeyStatus.REVOKED
    elif key.expired(now):
        status = KeyStatus.EXPIRED
    limits = key.limits
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": sorted(key.scopes),
        "status": status,
        "operator": key.operator,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": last_used_at,
        "rotated_from": key.rotated_from,
        "replaced_by": key.replaced_by,
        "limits": limits
        and Limits.model_construct(requests_per_second=limits.requests_per_second, streams=limits.streams),
    }
