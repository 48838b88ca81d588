"""Replace the stream of events by one that starts at a later position; publishers wait meanwhile.

While its subjects are closed, publishers get "no responders" and retry: nothing that they are acknowledged
can be missed by a copy.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from antiphon.chassis.bus.admin import SECOND, create_consumers, reserve, stream_config
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import ApiError
from antiphon.chassis.bus.messages import TRACEPARENT, Incoming, Outgoing
from antiphon.chassis.bus.protocol import LONGEST_SUBJECT
from antiphon.chassis.bus.publish import MESSAGE_ID, PUBLISH_DEADLINE_SECONDS, publish_many
from antiphon.chassis.bus.stored import NOT_FOUND, StreamState, all_messages, stream_state
from antiphon.contracts.streams import SESSIONS, StreamDefinition

KEPT = ("description", "max_age", "max_bytes", "num_replicas", "placement")  # of the replaced stream
KEPT_FIELDS = "antiphon.kept"

CLOSED = "closed."  # before the subjects of a stream that takes no messages
COPIES = "copies."  # before the subjects of copied messages
CONSUMERS = f"{COPIES}consumers"  # no event: what other_consumers has set aside
REFILL = "refill."  # before the subjects of a new stream that only takes copies

ID_BYTES = 512  # more than an id and other headers add to a copy
DUPLICATE_SECONDS = 6 * 3600  # in which an interrupted run may be run again, and copies nothing twice
CHUNK = 32  # messages in one batch: of the largest, 32 MiB
UNREAD = f"{SESSIONS.name}_UNREAD"  # a stream: the copies, while the stream of events is replaced


def in_progress(state: StreamState) -> bool:
    """Return whether a stream is being replaced, or that was interrupted: it takes no messages."""
    return any(subject.startswith((CLOSED, REFILL)) for subject in state.subjects)


def is_refilled(state: StreamState) -> bool:
    """Return whether a stream is a new one that is being filled, or that was interrupted."""
    return any(subject.startswith(REFILL) for subject in state.subjects)


async def resize(connection: Connection, definition: StreamDefinition, max_bytes: int) -> None:
    """Give a stream that is to be replaced the size of the new one, so that a refusal comes before its end.

    Raises StorageTooSmall.
    """
    config = (await connection.api(f"STREAM.INFO.{definition.name}"))["config"]
    if config["max_bytes"] != max_bytes:  # a smaller one drops nothing: it takes no more
        await reserve(connection, "UPDATE", config | {"max_bytes": max_bytes}, config["max_bytes"])


async def close_intake(connection: Connection, definition: StreamDefinition) -> None:
    """Make a stream refuse messages and keep those that it has; create the stream of copies."""
    config = (await connection.api(f"STREAM.INFO.{definition.name}"))["config"]
    subjects = [f"{CLOSED}{subject}" for subject in definition.subjects]
    config.pop("subject_transform", None)
    await connection.api(f"STREAM.UPDATE.{definition.name}", config | {"subjects": subjects})
    await _make_copies(connection, {name: config[name] for name in KEPT if name in config})


async def make_copies(connection: Connection, replicas: int | None = None) -> None:
    """Create the stream of copies unless it exists, for a stream of events that does not."""
    await _make_copies(connection, {} if replicas is None else {"num_replicas": replicas})


async def _make_copies(connection: Connection, kept: dict[str, Any]) -> None:
    if await stream_state(connection, UNREAD) is None:
        await connection.api(f"STREAM.CREATE.{UNREAD}", _copies_config(kept))


def _copies_config(kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": UNREAD,
        "description": f"Copies of messages, while {SESSIONS.name} is replaced",
        "subjects": [f"{COPIES}>"],
        "storage": "file",
        "num_replicas": kept.get("num_replicas", 1),
        "duplicate_window": DUPLICATE_SECONDS * SECOND,
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": {KEPT_FIELDS: json.dumps(kept)},
    }


async def reopen_intake(connection: Connection, definition: StreamDefinition) -> None:
    """Undo `close_intake`: the stream takes messages again, and its copies are deleted."""
    config = (await connection.api(f"STREAM.INFO.{definition.name}"))["config"]
    config["subjects"] = list(definition.subjects)
    await connection.api(f"STREAM.UPDATE.{definition.name}", config)
    await delete(connection, UNREAD)


async def _final_config(connection: Connection, definition: StreamDefinition) -> dict[str, Any]:
    """Return the definition, with the fields that an operator had changed in the replaced stream."""
    try:
        info = await connection.api(f"STREAM.INFO.{UNREAD}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        return stream_config(definition)
    kept: dict[str, Any] = json.loads(info["config"].get("metadata", {}).get(KEPT_FIELDS, "{}"))
    return stream_config(definition) | kept


async def copy(connection: Connection, messages: Iterable[Incoming]) -> None:
    """Store copies of messages, in order."""
    limit = connection.client.max_payload
    await _publish_all(connection, [_copy(message, limit) for message in messages])


async def create_closed(
    connection: Connection,
    definition: StreamDefinition,
    first: int,
    replicas: int | None = None,
    max_bytes: int | None = None,
) -> None:
    """Create the stream with `first` as its first position; until it is opened, it only takes copies.

    Without `replicas` it gets as many as the replaced stream had, or one; the same with `max_bytes`.
    """
    wanted = {} if replicas is None else {"num_replicas": replicas}
    wanted |= {} if max_bytes is None else {"max_bytes": max_bytes}
    config = (
        await _final_config(connection, definition)
        | wanted
        | {
            "first_seq": first,
            "subjects": [f"{REFILL}{subject}" for subject in definition.subjects],
            "subject_transform": {"src": f"{REFILL}>", "dest": ">"},
        }
    )
    await reserve(connection, "CREATE", config)


async def has_copies(connection: Connection) -> bool:
    """Return whether the stream of copies exists: it does until a run is completed."""
    return await stream_state(connection, UNREAD) is not None


async def refill(connection: Connection) -> int:
    """Publish the copies into the new stream, in order, and return their number."""
    count = 0
    if not await has_copies(connection):
        return count
    chunk: list[Outgoing] = []
    async for message in all_messages(connection, UNREAD):
        if message.subject == CONSUMERS:
            continue
        chunk.append(_again(message, REFILL + message.subject.removeprefix(COPIES)))
        if len(chunk) == CHUNK:
            await _publish_all(connection, chunk)
            chunk = []
        count += 1
    await _publish_all(connection, chunk)
    return count


async def open_intake(connection: Connection, definition: StreamDefinition) -> None:
    """Give the new stream its consumers and its subjects: publishers continue."""
    created = (await connection.api(f"STREAM.INFO.{definition.name}"))["config"]
    config = await _final_config(connection, definition) | {
        name: created[name] for name in ("num_replicas", "max_bytes")
    }
    await connection.api(f"STREAM.UPDATE.{definition.name}", config)
    await create_consumers(connection)


async def delete(connection: Connection, stream: str) -> None:
    """Delete a stream with all its messages, if it exists."""
    try:
        await connection.api(f"STREAM.DELETE.{stream}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise


def printable(subject: str) -> str:
    """Return a subject that can be published; one with other characters is invalid, and a dead letter."""
    return "".join(c if c.isascii() and c.isprintable() and c != " " else "?" for c in subject)


def _copy(message: Incoming, max_payload: int) -> Outgoing:
    subject = printable(message.subject)
    longest = LONGEST_SUBJECT - len(COPIES)
    if len(subject) > longest:  # no event has such a subject: it is a dead letter, and remains one
        subject = f"{subject[: longest - 1]}?"
    out = _again(message, COPIES + subject)
    if out.message_id or len(out.payload) + ID_BYTES > max_payload:
        return out
    # So that an interrupted run, and the next one, store it once.
    digest = hashlib.sha256(message.payload).hexdigest()[:32]
    return Outgoing(out.subject, out.payload, f"copy:{message.position}:{digest}", out.headers)


def _again(message: Incoming, subject: str) -> Outgoing:
    headers = message.headers or {}
    trace = {TRACEPARENT: headers[TRACEPARENT]} if TRACEPARENT in headers else {}
    return Outgoing(subject, message.payload, headers.get(MESSAGE_ID, ""), trace)


async def _publish_all(connection: Connection, outs: Sequence[Outgoing]) -> None:
    for start in range(0, len(outs), CHUNK):
        await publish_many(connection, outs[start : start + CHUNK], PUBLISH_DEADLINE_SECONDS)
