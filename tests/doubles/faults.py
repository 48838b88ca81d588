"""The faults that a double can make, and the plan of when it makes them.

A fault belongs to one request, or to one connection of a WebSocket. `after` counts the pieces of an answer
that are sent before it: events of a stream, blocks of audio, messages of a WebSocket; the headers of an
answer go with its first piece, the acceptance of a WebSocket is a piece of its own.
"""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Status:
    """An error in the provider's own format; `retry_after` is in seconds."""

    code: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """No more pieces, and the connection stays open. `after=0`: not even a status line."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is reset."""

    after: int = 1


@dataclass(frozen=True, slots=True)
class Slow:
    """The first piece comes late, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Nonsense:
    """An answer with status 200 whose messages are no JSON, or JSON of another schema; or a proxy's page."""

    kind: Literal["not_json", "wrong_schema", "page"] = "not_json"


@dataclass(frozen=True, slots=True)
class WrongRate:
    """Audio of another rate than was asked for, in samples a second."""

    rate: int = 8_000


Fault: TypeAlias = Status | Hang | Cut | Slow | Nonsense | WrongRate

UNAUTHORIZED = Status(401)
FORBIDDEN = Status(403)
RATE_LIMITED = Status(429, retry_after=1)
BROKEN = Status(500)
PAGE = "<html><body>Bad gateway</body></html>"
NOT_JSON = "{not json"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds
WRONG_SCHEMA = '{"unexpected": [1, 2, 3]}'


@dataclass(slots=True)
class FaultPlan:
    """The faults of the next requests, in their order; then `always`, if it is set."""

    _next: deque[Fault | None] = field(default_factory=deque)
    always: Fault | None = None

    def then(self, *faults: Fault | None) -> None:
        """Add the faults of the requests that follow; None is a request without a fault."""
        self._next.extend(faults)

    def take(self) -> Fault | None:
        """Return the fault of this request."""
        return self._next.popleft() if self._next else self.always


class CutOff(ConnectionResetError):
    """The double has reset the connection."""


class Pieces:
    """Counts the pieces of one answer and makes the fault when its piece is due."""

    def __init__(self, request: web.Request, fault: Fault | None) -> None:
        self.fault = fault
        self._request = request
        self._count = 0

    async def before(self) -> None:
        """Wait, hang or cut before the next piece; call it once before each."""
        number, self._count = self._count, self._count + 1
        match self.fault:
            case Slow(seconds) if number == 0:
                await asyncio.sleep(seconds)
            case Hang(after) if number >= after:
                await asyncio.Event().wait()  # ends with the connection, or with the server
            case Cut(after) if number >= after:
                await reset(self._request)
                raise CutOff


async def reset(request: web.Request) -> None:
    """Reset the connection of a request, after what was sent has arrived."""
    await asyncio.sleep(0.01)
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()


def makes_page(fault: Fault | None) -> bool:
    """Whether a double answers with a page of HTML."""
    return fault == Nonsense("page")


def spoils(fault: Fault | None) -> bool:
    """Whether the answer does not arrive whole: the script then keeps it for the next request."""
    return not isinstance(fault, None | Slow | WrongRate)


def nonsense(fault: Fault | None) -> str | None:
    """Return the text that a double sends in place of an answer."""
    match fault:
        case Nonsense("not_json"):
            return NOT_JSON
        case Nonsense("wrong_schema"):
            return WRONG_SCHEMA
        case _:
            return None


def rate_of(fault: Fault | None, asked: int) -> int:
    """Return the rate of the audio that a double sends."""
    return fault.rate if isinstance(fault, WrongRate) else asked
