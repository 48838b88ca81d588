"""The bus as everyone sees it; over NATS in service, in memory in tests."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from antiphon.chassis.bus.messages import Ack, Incoming, Outgoing
from antiphon.contracts.streams import ConsumerDefinition

PUBLISH_DEADLINE_SECONDS = 10.0
CONNECT_DEADLINE_SECONDS = 10.0
BATCH_LIMIT = 1000  # messages in one atomic batch, the server's own limit

Announcement = tuple[str, bytes]
MISSED: Final[Announcement] = ("", b"")  # something may have been missed before what follows


class Puller(ABC):
    """Receive one consumer's messages in order, and acknowledge them up to a point."""

    @abstractmethod
    async def next(self) -> list[Incoming]:
        """Wait for messages and return at once with those that have arrived, at most a batch.

        Raises ConsumerGap, ConsumerLost.
        """

    @abstractmethod
    async def ack_through(self, incoming: Incoming, *, timeout_seconds: float = 5.0) -> None:
        """Acknowledge everything up to this message, and wait until the server has noted it.

        Raises BusUnavailable.
        """


class Subscription(ABC):
    """Iterate over what is said on a subject; `MISSED` comes wherever something may have been missed."""

    dropped: bool = False

    @abstractmethod
    async def next(self, timeout_seconds: float | None = None) -> Announcement | None:
        """Wait for what is said next; return None after a silence of `timeout_seconds`, or once closed."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Announcement]: ...

    @abstractmethod
    async def close(self) -> None:
        """Stop listening; the iteration ends."""


class Watched(Mapping[str, bytes]):
    """Hold a bucket's content, kept current in memory."""

    _content: dict[str, bytes]

    def __getitem__(self, key: str) -> bytes:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    @abstractmethod
    async def close(self) -> None:
        """Stop watching; the content stays as it is."""


class Bucket(ABC):
    """Read and write one key-value bucket."""

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """Return the key's value, or None."""

    @abstractmethod
    async def put(self, key: str, value: bytes) -> None:
        """Set the key's value."""

    @abstractmethod
    async def create(self, key: str, value: bytes) -> None:
        """Set the value of a key that is not there.

        Raises KeyExists.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove the key."""

    @abstractmethod
    async def keys(self) -> list[str]:
        """List the keys, sorted."""

    @abstractmethod
    async def watch(self) -> Watched:
        """Read the whole bucket into memory and keep it current."""


class Bus(ABC):
    """The only door to the broker. Every method but `announce` raises BusUnavailable after its deadline."""

    @staticmethod
    async def connect(
        url: str, *, name: str = "antiphon", connect_timeout_seconds: float = CONNECT_DEADLINE_SECONDS
    ) -> "Bus":
        """Connect to NATS; later losses of the connection are healed for ever.

        Raises BusUnavailable when the first connect does not succeed in time.
        """
        from antiphon.chassis.bus.nats_bus import NatsBus

        return await NatsBus.open(url, name, connect_timeout_seconds)

    @abstractmethod
    async def publish(
        self,
        out: Outgoing,
        *,
        expect_empty: str | None = None,
        timeout_seconds: float = PUBLISH_DEADLINE_SECONDS,
    ) -> Ack:
        """Store a message and return where; `expect_empty` is a subject filter that must hold nothing yet.

        Raises SubjectNotEmpty, PayloadTooLarge, StreamFull.
        """

    @abstractmethod
    async def publish_many(
        self, outs: Sequence[Outgoing], *, timeout_seconds: float = PUBLISH_DEADLINE_SECONDS
    ) -> list[Ack]:
        """Store messages in order, as one atomic batch where none of them is stored already.

        Raises PayloadTooLarge, StreamFull.
        """

    @abstractmethod
    def pull(self, consumer: ConsumerDefinition, *, batch: int = 500) -> AbstractAsyncContextManager[Puller]:
        """Open the one puller of a consumer on which nothing is delivered and not acknowledged."""

    @abstractmethod
    async def reset_consumer(self, consumer: ConsumerDefinition, start: int) -> None:
        """Make the consumer deliver again from position `start`, whatever was acknowledged.

        Raises ConsumerLost, StreamReplaced.
        """

    @abstractmethod
    def read(self, subject_filter: str, after: int = 0) -> AsyncIterator[Incoming]:
        """Iterate over the stored messages of a filter after a position, to the end that is there now."""

    @abstractmethod
    async def last(self, subject_filter: str) -> Incoming | None:
        """Return the newest stored message of a filter."""

    @abstractmethod
    async def announce(self, subject: str, payload: bytes) -> None:
        """Say something that is not history, to whoever listens now; raise nothing when nobody can hear."""

    @abstractmethod
    async def subscribe(self, subject: str) -> Subscription:
        """Listen to what is announced from now on."""

    @abstractmethod
    async def ensure(self) -> None:
        """Make what the contract defines and is not there yet: streams, consumers, buckets.

        Raises DefinitionMismatch.
        """

    @abstractmethod
    async def verify(self) -> None:
        """Check that what the contract defines is there as defined.

        Raises DefinitionMismatch.
        """

    @abstractmethod
    async def ready(self, *, timeout_seconds: float = 2.0) -> None:
        """Prove by a round trip that the broker stores and answers."""

    @abstractmethod
    async def bucket(self, name: str) -> Bucket:
        """Open a bucket."""

    @abstractmethod
    async def close(self) -> None:
        """Send what is still to be sent and disconnect, within a few seconds."""
