"""Watch a bucket: its whole content in memory, a few milliseconds behind the broker."""

import asyncio
from secrets import token_hex

import structlog

from antiphon.chassis.bus import ack_subject
from antiphon.chassis.bus.connection import ApiError, Connection
from antiphon.chassis.bus.errors import BusError, BusUnavailable
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.bus.port import CONNECT_DEADLINE_SECONDS, Watched
from antiphon.chassis.bus.pull import NatsPuller
from antiphon.contracts.streams import ConsumerDefinition

log = structlog.get_logger(__name__)

BATCH = 256
INACTIVE_SECONDS = 30
PAUSE_SECONDS = 0.5


class NatsWatched(Watched):
    """Follow a bucket through a consumer of our own; when it is lost, read everything again and swap."""

    def __init__(self, connection: Connection, stream: str, prefix: str) -> None:
        self._connection = connection
        self._stream = stream
        self._prefix = prefix
        self._content: dict[str, bytes] = {}
        self._loaded = asyncio.Event()

    async def start(self) -> None:
        """Wait until the content is there.

        Raises BusUnavailable.
        """
        self._task = asyncio.create_task(self._follow(), name=f"watch {self._stream}")
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
                await self._loaded.wait()
        except TimeoutError as error:
            await self.close()
            raise BusUnavailable(f"{self._stream} could not be read into memory") from error

    async def close(self) -> None:
        """Stop watching (see Watched.close)."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_one_consumer()
            except BusError as error:
                log.warning("watch.interrupted", stream=self._stream, error=str(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow_one_consumer(self) -> None:
        consumer, expected = await self._make_consumer()
        content: dict[str, bytes] = {}
        if expected == 0:
            self._swap(content)
        try:
            async with NatsPuller(self._connection, consumer, BATCH) as puller:
                while True:
                    for entry in await puller.next():
                        self._apply(content, entry)
                        expected -= 1
                    if expected <= 0 or ack_subject.parse(entry.ack_subject).pending == 0:
                        self._swap(content)
        finally:
            await self._drop(consumer)

    def _apply(self, content: dict[str, bytes], entry: Incoming) -> None:
        key = entry.subject.removeprefix(self._prefix)
        if entry.headers is not None and entry.headers.get("KV-Operation") in ("DEL", "PURGE"):
            content.pop(key, None)
        else:
            content[key] = entry.payload

    def _swap(self, content: dict[str, bytes]) -> None:
        self._content = content
        self._loaded.set()

    async def _make_consumer(self) -> tuple[ConsumerDefinition, int]:
        consumer = ConsumerDefinition(
            stream=self._stream,
            name=f"watch-{token_hex(8)}",
            filter_subject=f"{self._prefix}>",
            description="A watcher's own consumer",
            ack_wait_seconds=0,
            max_ack_pending=0,
        )
        config = {
            "name": consumer.name,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": consumer.filter_subject,
            "inactive_threshold": int(INACTIVE_SECONDS * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
        }
        info = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{consumer.name}",
            {"stream_name": self._stream, "config": config},
        )
        return consumer, int(info["num_pending"])

    async def _drop(self, consumer: ConsumerDefinition) -> None:
        if not self._connection.connected.is_set():
            return  # the server forgets it by itself after a while
        try:
            await self._connection.api(f"CONSUMER.DELETE.{consumer.stream}.{consumer.name}")
        except (ApiError, BusUnavailable) as error:
            log.debug("watch.consumer_left_behind", consumer=consumer.name, error=str(error))


async def watch_bucket(connection: Connection, stream: str, prefix: str) -> Watched:
    """Read a bucket into memory and keep it current.

    Raises BusUnavailable.
    """
    watched = NatsWatched(connection, stream, prefix)
    await watched.start()
    return watched
