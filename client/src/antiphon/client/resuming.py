"""What arrives in pieces over connections that break, as the clients drive it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from antiphon.client.calls import Call, Reply
from antiphon.client.errors import AntiphonError

T_co = TypeVar("T_co", covariant=True)


class Resuming(Protocol[T_co]):
    """A stream or an export across all its connections, without I/O."""

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""

    @property
    def reading(self) -> bool:
        """Whether the connection has more to read."""

    def call(self) -> Call[None]:
        """Return the request of the next connection."""

    def opened(self, reply: Reply) -> bool:
        """Take the head of an answer; return whether there is something to read."""

    def refused(self, reply: Reply) -> None:
        """Take an answer with nothing to read but its error, read to its end."""

    def received(self, chunk: bytes) -> Iterable[T_co]:
        """Return what a chunk completes."""

    def closed(self) -> None:
        """Take the server's end of an answer."""

    def broke(self, error: AntiphonError) -> None:
        """Take the failure of a connection."""

    def pause(self) -> float:
        """Return the seconds to wait before the next connection."""
