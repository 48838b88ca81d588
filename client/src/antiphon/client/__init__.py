"""A client of Antiphon's HTTP API, sync and async."""

from antiphon.client.async_client import AsyncAntiphon
from antiphon.client.errors import (
    AntiphonError,
    ApiError,
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    FieldError,
    InvalidClientSettings,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Problem,
    RateLimited,
    ServerUnavailable,
    StreamBroken,
    Timeout,
    UnreadableResponse,
)
from antiphon.client.events import SessionEvent
from antiphon.client.results import ApiKey, CreatedKey, CreatedSession, Ending, Flow, JoinToken, Session, Turn
from antiphon.client.sync_client import Antiphon

__all__ = [
    "Antiphon",
    "AntiphonError",
    "ApiError",
    "ApiKey",
    "AsyncAntiphon",
    "AuthenticationError",
    "Conflict",
    "ConnectionFailed",
    "CreatedKey",
    "CreatedSession",
    "Ending",
    "FieldError",
    "Flow",
    "InvalidClientSettings",
    "InvalidRequest",
    "JoinToken",
    "NotFound",
    "PermissionDenied",
    "Problem",
    "RateLimited",
    "ServerUnavailable",
    "Session",
    "SessionEvent",
    "StreamBroken",
    "Timeout",
    "Turn",
    "UnreadableResponse",
]
