"""A client of Antiphon's HTTP API, sync and async."""

from antiphon.client.async_client import AsyncAntiphon
from antiphon.client.errors import (
    AntiphonError,
    ApiError,
    AuthenticationError,
    ClientClosed,
    Conflict,
    ConnectionFailed,
    FieldError,
    Gone,
    InvalidArgument,
    InvalidClientSettings,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Problem,
    RateLimited,
    ServerUnavailable,
    StreamBroken,
    Timeout,
    TlsFailed,
    UnreadableResponse,
)
from antiphon.client.event_feeds import AsyncEventFeed, EventFeed
from antiphon.client.events import SessionEvent
from antiphon.client.exporting import ExportedBatch
from antiphon.client.results import ApiKey, CreatedKey, CreatedSession, Ending, Flow, JoinToken, Session, Turn
from antiphon.client.sync_client import Antiphon

__all__ = [
    "Antiphon",
    "AntiphonError",
    "ApiError",
    "ApiKey",
    "AsyncAntiphon",
    "AsyncEventFeed",
    "AuthenticationError",
    "ClientClosed",
    "Conflict",
    "ConnectionFailed",
    "CreatedKey",
    "CreatedSession",
    "Ending",
    "EventFeed",
    "ExportedBatch",
    "FieldError",
    "Flow",
    "Gone",
    "InvalidArgument",
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
    "TlsFailed",
    "Turn",
    "UnreadableResponse",
]
