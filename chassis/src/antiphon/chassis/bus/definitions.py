"""Make the streams, consumers and buckets that the contract defines, and check those that are there."""

from collections.abc import Mapping
from typing import Any

from antiphon.chassis.bus.connection import ApiError, Connection
from antiphon.chassis.bus.errors import ConsumerLost, DefinitionMismatch, StreamReplaced
from antiphon.contracts.streams import (
    BUCKETS,
    CONSUMERS,
    STREAMS,
    BucketDefinition,
    ConsumerDefinition,
    StreamDefinition,
)

SECOND = 1_000_000_000  # JetStream counts in nanoseconds
NOT_FOUND = 404

Config = dict[str, Any]


def stream_config(definition: StreamDefinition) -> Config:
    """Write a stream's definition as the server takes it."""
    return {
        "name": definition.name,
        "description": definition.description,
        "subjects": list(definition.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": definition.max_age_seconds * SECOND,
        "max_bytes": definition.max_bytes,
        "duplicate_window": definition.duplicate_window_seconds * SECOND,
        "deny_delete": True,
        "deny_purge": False,
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": dict(definition.metadata),
    }


def bucket_config(definition: BucketDefinition) -> Config:
    """Write a bucket's definition as the stream that it is."""
    return {
        "name": f"KV_{definition.name}",
        "description": definition.description,
        "subjects": [f"$KV.{definition.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": definition.history,
        "max_msg_size": definition.max_value_bytes,
        "deny_delete": True,
        "deny_purge": False,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }


def consumer_config(definition: ConsumerDefinition) -> Config:
    """Write a consumer's definition as the server takes it."""
    return {
        "durable_name": definition.name,
        "name": definition.name,
        "description": definition.description,
        "filter_subject": definition.filter_subject,
        "deliver_policy": "all",
        "ack_policy": "all",
        "ack_wait": definition.ack_wait_seconds * SECOND,
        "max_ack_pending": definition.max_ack_pending,
        "replay_policy": "instant",
    }


# What an operator may set otherwise: words for people, and how much there may be of it.
FREE = frozenset({"description", "max_bytes", "max_age", "ack_wait"})


async def ensure(connection: Connection) -> None:
    """Make what is missing, then check everything (see Bus.ensure)."""
    configs = [stream_config(stream) for stream in STREAMS] + [bucket_config(bucket) for bucket in BUCKETS]
    for config in configs:
        if await _stream(connection, config["name"]) is None:
            await connection.api(f"STREAM.CREATE.{config['name']}", config)
    for consumer in CONSUMERS:
        if await _consumer(connection, consumer) is None:
            await connection.api(
                f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter_subject}",
                {"stream_name": consumer.stream, "config": consumer_config(consumer), "action": "create"},
            )
    await verify(connection)


async def verify(connection: Connection) -> None:
    """Check everything, change nothing (see Bus.verify)."""
    differences: list[str] = []
    for config in [stream_config(stream) for stream in STREAMS] + [bucket_config(b) for b in BUCKETS]:
        found = await _stream(connection, config["name"])
        differences += _compare(f"stream {config['name']}", config, found)
    for consumer in CONSUMERS:
        found = await _consumer(connection, consumer)
        differences += _compare(f"consumer {consumer.name}", consumer_config(consumer), found)
    if differences:
        raise DefinitionMismatch("; ".join(differences))


async def reset_consumer(connection: Connection, consumer: ConsumerDefinition, start: int) -> None:
    """Make the consumer deliver again from a position (see Bus.reset_consumer)."""
    if await _consumer(connection, consumer) is None:  # the server would not answer at all
        raise ConsumerLost(f"{consumer.name} does not exist")
    try:
        # The server takes a start beyond the end, and would then deliver nothing until it is reached again.
        info = await connection.api(f"STREAM.INFO.{consumer.stream}")
        if start > info["state"]["last_seq"] + 1:
            raise StreamReplaced(
                f"stream {consumer.stream} ends at {info['state']['last_seq']}, "
                f"but was read up to {start - 1}: it was made anew or restored"
            )
        await connection.api(f"CONSUMER.RESET.{consumer.stream}.{consumer.name}", {"seq": max(start, 1)})
    except ApiError as error:
        raise ConsumerLost(f"{consumer.name} cannot be reset to {start}: {error}") from error


async def _stream(connection: Connection, name: str) -> Config | None:
    return await _config(connection, f"STREAM.INFO.{name}")


async def _consumer(connection: Connection, consumer: ConsumerDefinition) -> Config | None:
    return await _config(connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")


async def _config(connection: Connection, verb: str) -> Config | None:
    try:
        info = await connection.api(verb)
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    config: Config = info["config"]
    return config


def _compare(what: str, wanted: Config, found: Config | None) -> list[str]:
    if found is None:
        return [f"{what} does not exist"]
    return [
        f"{what}: {name} is {found.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if name not in FREE and not _same(value, found.get(name))
    ]


def _same(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping):  # the server adds metadata of its own
        there = found if isinstance(found, Mapping) else {}
        return all(there.get(name) == value for name, value in wanted.items())
    if wanted is False:  # the server leaves out what is off
        return not found
    return wanted == found
