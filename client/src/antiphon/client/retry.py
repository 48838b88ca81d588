"""When to send a call again, and how long to wait before: decided here, done by the clients."""

import random
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from msgspec import Struct

from antiphon.client.calls import Call, Reply
from antiphon.client.errors import AntiphonError, ConnectionFailed, Timeout, TlsFailed

RETRIED = frozenset({429, 502, 503, 504})
FIRST_SECONDS = 0.25
LONGEST_SECONDS = 8.0
SHORTEST_ATTEMPT_SECONDS = 0.001

T = TypeVar("T")


class Send(Struct, frozen=True):
    """A step: send the call once, and give the reply or the error back."""

    call: Call[Any]
    seconds: float


class Sleep(Struct, frozen=True):
    """A step: wait."""

    seconds: float


class NotSent(ConnectionFailed):
    """The connection was not made, so the server has seen nothing of the request."""


Outcome = Reply | AntiphonError
Steps = Generator[Send | Sleep, Outcome | None, T]


class Policy(Struct, frozen=True, kw_only=True):
    """The limits of a client's calls: seconds for all attempts of one, and for each attempt."""

    timeout_seconds: float = 30.0
    attempt_seconds: float = 15.0
    max_retries: int = 8


def backoff(failures: int, *, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> float:
    """Return the seconds to wait after this many failures: doubling, with jitter from half to whole."""
    whole: float = min(first * 2.0 ** min(failures - 1, 30), longest)
    return whole * random.uniform(0.5, 1.0)


def attempts(call: Call[T], policy: Policy, now: Callable[[], float]) -> Steps[T]:
    """Send a call until it succeeds, it must not be repeated, or its time is over; return what it reads.

    Raises ApiError, ConnectionFailed, Timeout, UnreadableResponse.
    """
    until = now() + (call.timeout_seconds or policy.timeout_seconds)
    attempt_seconds = call.attempt_seconds or policy.attempt_seconds
    failures = 0
    while True:
        seconds = max(min(attempt_seconds, until - now()), SHORTEST_ATTEMPT_SECONDS)
        outcome = yield Send(call, seconds)
        assert outcome is not None
        if isinstance(outcome, Reply) and outcome.ok:
            return call.parse(outcome)
        failures += 1
        error = outcome.error() if isinstance(outcome, Reply) else outcome
        wait = _wait(outcome, failures)
        if not _may_repeat(call, outcome) or failures > policy.max_retries or now() + wait >= until:
            raise error
        yield Sleep(wait)


def _wait(outcome: Outcome, failures: int) -> float:
    after = outcome.retry_after() if isinstance(outcome, Reply) else None
    return backoff(failures) if after is None else after + backoff(1)


def _may_repeat(call: Call[Any], outcome: Outcome) -> bool:
    match outcome:
        case Reply():
            # with 429 the server has done nothing
            return outcome.status == 429 or (call.repeatable and outcome.status in RETRIED)
        case TlsFailed():
            return False
        case NotSent():
            return True
        case ConnectionFailed() | Timeout():
            return call.repeatable
    return False
