"""Rate limits per key, tenant and client address, in the memory of this replica."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from antiphon.session_api.problems import Problem

WINDOW_SECONDS = 10  # a rate may be exceeded within it: bursts are normal
COUNTERS = 10_000  # of one limit; 2 MiB


class Counters(Storage):
    """Counters of fixed windows; of too many, the one that was used longest ago is forgotten.

    The library's own storage in memory has no bound, and looks at every counter in a task per request.
    """

    STORAGE_SCHEME = None

    def __init__(self, size: int = COUNTERS, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._size = size
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}  # count and end, in order of use
        self.latest = 0, 0.0  # count and end of the window that was counted in last

    @property
    def base_exceptions(self) -> type[Exception]:
        """The errors of this storage."""
        return ValueError

    def __len__(self) -> int:
        return len(self._windows)

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count in the key's window, which ends `expiry` seconds after its first count."""
        count, end = self._windows.pop(key, (0, 0.0))
        if end <= (now := self._clock()):
            count, end = 0, now + expiry
        self.latest = self._windows[key] = count + amount, end
        if len(self._windows) > self._size:
            del self._windows[next(iter(self._windows))]
        return count + amount

    def get(self, key: str) -> int:
        """Return the count of the key's window."""
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """Return when the key's window ends."""
        return self._windows.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        """Return true: memory is always there."""
        return True

    def reset(self) -> int | None:
        """Forget every counter."""
        self._windows.clear()
        return None

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._windows.pop(key, None)


class Standing(NamedTuple):
    """What one request leaves of a limit."""

    name: str
    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


class RateLimit:
    """A limit in requests per second, counted over windows of ten seconds; 0 is no limit."""

    def __init__(self, name: str, per_second: int, clock: Callable[[], float] = time.time) -> None:
        self.per_second = per_second
        self._name = name
        self._clock = clock
        self._counters = Counters(clock=clock)
        self._limiter = FixedWindowRateLimiter(self._counters)
        self._items: dict[int, RateLimitItem] = {}

    def hit(self, identifier: str, per_second: int | None = None) -> Standing | None:
        """Count one request; None when there is no limit. `per_second` is a limit of its own."""
        rate = self.per_second if per_second is None else per_second
        if not rate:
            return None
        item = self._item(rate)
        allowed = self._limiter.hit(item, identifier)
        count, end = self._counters.latest  # get_window_stats costs three times as much as the hit
        seconds = max(1, math.ceil(end - self._clock()))
        return Standing(self._name, allowed, item.amount, max(0, item.amount - count), seconds)

    def _item(self, per_second: int) -> RateLimitItem:
        item = self._items.get(per_second)
        if item is None:
            if len(self._items) >= COUNTERS:
                self._items.clear()
            item = RateLimitItemPerSecond(per_second * WINDOW_SECONDS, WINDOW_SECONDS, self._name)
            self._items[per_second] = item
        return item


def headers_of(*standings: Standing) -> dict[str, str]:
    """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
    policies = ", ".join(f'"{each.name}";q={each.limit};w={WINDOW_SECONDS}' for each in standings)
    left = ", ".join(f'"{each.name}";r={each.remaining};t={each.reset_seconds}' for each in standings)
    return {"RateLimit-Policy": policies, "RateLimit": left}


def rate_limited(standing: Standing, detail: str) -> Problem:
    """Return the problem for a limit that is exceeded."""
    return Problem(
        429,
        "rate-limited",
        f"{detail} Try again in {standing.reset_seconds} s.",
        retry_after_seconds=standing.reset_seconds,
        headers=headers_of(standing),
        limit=standing.limit,
        window_seconds=WINDOW_SECONDS,
    )
