"""Key-value buckets: read and written key by key, or watched as a whole."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import publish as publishing
from antiphon.chassis.bus.connection import CONNECT_DEADLINE_SECONDS, Connection
from antiphon.chassis.bus.errors import BusError, BusUnavailable, KeyExists
from antiphon.chassis.bus.messages import Incoming, Outgoing
from antiphon.chassis.bus.read import last, read, read_all
from antiphon.chassis.bus.stored import StreamState, message_at, stream_state
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying

log = get_logger(__name__)

OPERATION = "KV-Operation"
REMOVED = ("DEL", "PURGE")
WATCH_LOOK_SECONDS = 2.0  # between two looks for changes that were missed
WATCH_BACKOFF_SECONDS = 0.5


class Entry(NamedTuple):
    """A key's value and its revision."""

    value: bytes
    revision: int


class Bucket:
    """A JetStream key-value bucket."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> bytes | None:
        """Return the key's value, or None."""
        entry = await self.entry(key)
        return None if entry is None else entry.value

    async def entry(self, key: str) -> Entry | None:
        """Return the key's value with its revision, or None."""
        entry = await last(self._connection, self._stream, self._prefix + key)
        return None if entry is None or _is_removal(entry) else Entry(entry.payload, entry.position)

    async def put(self, key: str, value: bytes) -> None:
        """Set the key's value."""
        await self._write(key, value, {})

    async def create(self, key: str, value: bytes) -> None:
        """Set the value of a key that does not exist yet.

        Raises KeyExists.
        """
        entry = await last(self._connection, self._stream, self._prefix + key)
        if entry is not None and not _is_removal(entry):
            raise KeyExists(key)
        if not await self._replace(key, value, entry.position if entry is not None else 0):
            raise KeyExists(key)

    async def update(
        self,
        key: str,
        value: bytes,
        revision: int,
        *,
        timeout_seconds: float = publishing.PUBLISH_DEADLINE_SECONDS,
    ) -> bool:
        """Set the key's value if its revision is still this one; return whether it was."""
        return await self._replace(key, value, revision, timeout_seconds)

    async def delete(self, key: str) -> None:
        """Remove the key."""
        await self._write(key, b"", {OPERATION: "DEL"})

    async def purge_removed(self, before: datetime) -> int:
        """Purge what is left of keys that were removed before a time; return how many those are.

        Every watch must have seen the removal by then, or read the bucket again.
        """
        removed = [
            entry
            async for entry in read(self._connection, self._stream, f"{self._prefix}>", 0)
            if _is_removal(entry) and entry.published_at is not None and entry.published_at < before
        ]
        for entry in removed:
            # up to its position: the key may exist again
            request = {"filter": entry.subject, "seq": entry.position + 1}
            await self._connection.api(f"STREAM.PURGE.{self._stream}", request)
        return len(removed)

    async def keys(self) -> list[str]:
        """Return the keys, sorted."""
        found: set[str] = set()
        async for entry in read(self._connection, self._stream, f"{self._prefix}>", 0):
            key = entry.subject.removeprefix(self._prefix)
            if _is_removal(entry):
                found.discard(key)
            else:
                found.add(key)
        return sorted(found)

    async def entries(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield each key with its value; one that is written meanwhile may come twice, the newest last.

        Raises BusUnavailable, HistoryGap.
        """
        async for key, entry in self.entries_after(">"):
            yield key, entry.value

    async def entries_after(self, pattern: str, revision: int = 0) -> AsyncGenerator[tuple[str, Entry], None]:
        """Yield the entries of keys that match a pattern, in the order of their revisions, after one.

        Raises BusUnavailable, HistoryGap.
        """
        async for entry in read_all(self._connection, self._stream, self._prefix + pattern, revision):
            if not _is_removal(entry):
                key = entry.subject.removeprefix(self._prefix)
                yield key, Entry(entry.payload, entry.position)

    async def revision_before(self, pattern: str, moment: datetime) -> int | None:
        """Return a revision before the first entry that was written at a time or later; None without one.

        Raises BusUnavailable.
        """
        request = {"next_by_subj": self._prefix + pattern, "start_time": moment.isoformat()}
        first = await message_at(self._connection, self._stream, request)
        return None if first is None else first.position - 1

    async def watch(self, *, keep: Callable[[bytes], bytes] = bytes) -> "WatchedBucket":
        """Read the whole bucket into memory and keep it current; `keep` returns what is kept of a value."""
        watched = WatchedBucket(self._connection, self._stream, self._prefix, keep)
        await watched.start()
        return watched

    async def _replace(
        self,
        key: str,
        value: bytes,
        revision: int,
        timeout_seconds: float = publishing.PUBLISH_DEADLINE_SECONDS,
    ) -> bool:
        try:
            await self._write(key, value, {publishing.EXPECTED_LAST: str(revision)}, timeout_seconds)
        except publishing.Refused as refusal:
            if refusal.err_code not in publishing.WRONG_LAST_SEQUENCE:
                raise
            return False
        return True

    async def _write(
        self,
        key: str,
        value: bytes,
        headers: dict[str, str],
        timeout_seconds: float = publishing.PUBLISH_DEADLINE_SECONDS,
    ) -> None:
        out = Outgoing(self._prefix + key, value, message_id="", headers=headers)
        await publishing.publish(self._connection, out, None, timeout_seconds)


class WatchedBucket(Mapping[str, bytes]):
    """A bucket's content in memory, a few milliseconds behind the broker.

    It subscribes to changes, reads them by direct get, and looks every two seconds for what it missed. A
    consumer would need the right to make one, with which a client makes the server write to any subject.
    A bucket that was made again replaces the content with its first key: an empty one waits for a restore.
    """

    def __init__(
        self, connection: Connection, stream: str, prefix: str, keep: Callable[[bytes], bytes] = bytes
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._prefix = prefix
        self._keep = keep
        self._content: dict[str, bytes] = {}
        self._created_at: datetime | None = None  # of the bucket that the content is of
        self._loaded = asyncio.Event()
        self._interruption: BaseException | None = None

    def __getitem__(self, key: str) -> bytes:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    async def start(self) -> None:
        """Wait until the content is loaded.

        Raises BusUnavailable.
        """
        retry = retrying(BusError, on_retry=self._on_interruption, longest_seconds=WATCH_BACKOFF_SECONDS)
        self._task = BackgroundTask(lambda: retry(self._follow), name=f"watch {self._stream}")
        try:
            async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
                await self._loaded.wait()
        except TimeoutError as error:
            await self.close()
            reason = "" if self._interruption is None else f": {self._interruption}"
            raise BusUnavailable(f"{self._stream} could not be read into memory{reason}") from error

    async def close(self) -> None:
        """Stop watching; the content stays as it is."""
        await self._task.close()

    async def ready(self) -> None:
        """Check that changes arrive; for `Health.add`.

        Raises BusUnavailable, BackgroundTaskFailed.
        """
        self._task.check()
        if self._interruption is not None:
            raise BusUnavailable(f"{self._stream} may be out of date: {self._interruption}")

    def _on_interruption(self, error: BaseException, _: int) -> None:
        self._interruption = error
        log.warning("watch.interrupted", extra={"stream": self._stream, "error": str(error)})

    async def _follow(self) -> None:
        changed = asyncio.Event()
        changes = await self._connection.subscribe(f"{self._prefix}>", lambda _: changed.set())
        forget = self._connection.on_reconnect(changed.set)
        try:
            await self._connection.round_trip()
            self._connection.check_permitted(changes.subject)
            await self._read_changes(changed)
        finally:
            forget()
            await self._connection.unsubscribe(changes)

    async def _read_changes(self, changed: asyncio.Event) -> None:
        first = state = await self._state()
        content: dict[str, bytes] = {}
        position = through = 0  # of the last entry; the end of the bucket when it was last read
        empty = state.messages == 0
        if empty and self._content and state.created_at != self._created_at:
            # its keys are lost, not removed: to forget them would refuse every caller
            self._on_interruption(BusUnavailable("it was made again and is empty: restore the buckets"), 1)
        elif empty:
            self._replace(content, state.created_at)
        while True:
            changed.clear()
            state = await self._state()
            if state.created_at != first.created_at or state.last < through:
                raise BusUnavailable(f"{self._stream} was made again")
            if state.last > through:
                async for entry in read_all(self._connection, self._stream, f"{self._prefix}>", position):
                    self._apply(content, entry)
                    position = entry.position
                through = state.last
                self._replace(content, state.created_at)
            await _wait(changed, WATCH_LOOK_SECONDS)

    async def _state(self) -> StreamState:
        state = await stream_state(self._connection, self._stream)
        if state is None:
            raise BusUnavailable(f"{self._stream} does not exist")
        return state

    def _apply(self, content: dict[str, bytes], entry: Incoming) -> None:
        key = entry.subject.removeprefix(self._prefix)
        if _is_removal(entry):
            content.pop(key, None)
        else:
            content[key] = self._keep(entry.payload)

    def _replace(self, content: dict[str, bytes], created_at: datetime) -> None:
        self._content, self._created_at = content, created_at
        self._interruption = None
        self._loaded.set()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _is_removal(entry: Incoming) -> bool:
    return entry.headers is not None and entry.headers.get(OPERATION) in REMOVED
