"""The streams, consumers and buckets of the contract: create them, verify them, reset a consumer."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import (
    ApiError,
    ConsumerLost,
    DefinitionMismatch,
    DefinitionMissing,
    StorageTooSmall,
    StreamMissing,
    StreamReplaced,
)
from antiphon.contracts.streams import (
    BUCKETS,
    CONSUMERS,
    STREAMS,
    BucketDefinition,
    ConsumerDefinition,
    StreamDefinition,
)

SECOND = 1_000_000_000  # JetStream durations are in nanoseconds
NOT_FOUND = 404
STREAM_NOT_FOUND = 10059
NO_STORAGE = (10047, 10002)  # of the server, of the account
APPEARS_ATTEMPTS = 5
APPEARS_SECONDS = 0.2
MISSING = "does not exist"

Config = dict[str, Any]


def stream_config(definition: StreamDefinition) -> Config:
    """Return a stream's definition as the server's API takes it."""
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
    """Return a bucket's definition as a stream for the server's API."""
    size = {"max_bytes": definition.max_bytes} if definition.max_bytes else {}
    # A second message for a key is refused, as is a purge: nobody can write over an entry or remove it.
    once = {"discard_new_per_subject": True} if definition.write_once else {}
    return {
        **size,
        **once,
        "name": f"KV_{definition.name}",
        "description": definition.description,
        "subjects": [f"$KV.{definition.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": definition.history,
        "max_msg_size": definition.max_value_bytes,
        "max_age": definition.max_age_seconds * SECOND,
        "deny_delete": True,
        "deny_purge": definition.write_once,
        "allow_rollup_hdrs": not definition.write_once,
        "allow_direct": True,
    }


def consumer_config(definition: ConsumerDefinition) -> Config:
    """Return a consumer's definition as the server's API takes it."""
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


# Fields that an operator may change: descriptions and limits.
TUNABLE = frozenset({"description", "max_bytes", "max_age", "ack_wait"})


async def ensure(
    connection: Connection, *, create_streams: bool, replicas: int | None = None, max_bytes: int | None = None
) -> None:
    """Create what is missing, then verify everything (see Bus.ensure)."""
    await ensure_buckets(connection, replicas)
    size = {} if max_bytes is None else {"max_bytes": max_bytes}
    for stream in STREAMS:
        found = await _stream(connection, stream.name)
        if found is None:
            if not create_streams:
                raise StreamMissing(f"stream {stream.name} does not exist")
            await reserve(
                connection, "CREATE", stream_config(stream) | {"num_replicas": replicas or 1} | size
            )
        elif found != found | size:
            # With `discard new` a smaller stream drops nothing: it takes no more.
            await reserve(connection, "UPDATE", found | size, found["max_bytes"])
    await create_consumers(connection)
    await verify(connection, replicas)


async def reserve(connection: Connection, verb: str, config: Config, reserved: int = 0) -> None:
    """Create or update a stream, which reserves `max_bytes` of the disk; `reserved` is what it does so far.

    Raises StorageTooSmall with both numbers, ApiError.
    """
    try:
        await connection.api(f"STREAM.{verb}.{config['name']}", config)
    except ApiError as error:
        if error.err_code not in NO_STORAGE:
            raise
        if verb == "CREATE" and await _appears(connection, config["name"]):
            return  # what took the space was this stream, which another process has created
        others = (await connection.api("INFO"))["reserved_storage"] - max(0, reserved)
        size = _size(config.get("max_bytes", 0))
        raise StorageTooSmall(
            f"The broker refuses the stream {config['name']}: {error}. The stream reserves "
            f"{size}, other streams reserve {_size(others)}, and max_file_store of the "
            "server is less than both together (without the setting it is three quarters of the free disk). "
            "Raise it, free disk space, or set ANTIPHON_STREAM_MAX_BYTES to less"
        ) from error


async def _appears(connection: Connection, name: str) -> bool:
    for _ in range(APPEARS_ATTEMPTS):
        if await _stream(connection, name) is not None:
            return True
        await asyncio.sleep(APPEARS_SECONDS)
    return False


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"


async def ensure_buckets(
    connection: Connection, replicas: int | None = None, buckets: Iterable[BucketDefinition] = BUCKETS
) -> None:
    """Create the buckets that are missing, and verify all (see Bus.ensure_buckets)."""
    differences: list[str] = []
    for config in map(bucket_config, buckets):
        found = await _stream(connection, config["name"])
        if found is None:
            await reserve(connection, "CREATE", config | {"num_replicas": replicas or 1})
        else:
            differences += _compare(f"stream {config['name']}", config, found)
    if differences:
        raise DefinitionMismatch("; ".join(differences))


async def create_consumers(
    connection: Connection, consumers: Iterable[ConsumerDefinition] = CONSUMERS
) -> None:
    """Create the consumers that are missing, never their stream.

    Raises StreamMissing.
    """
    for consumer in consumers:
        if await _consumer(connection, consumer) is not None:
            continue
        try:
            await connection.api(
                f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter_subject}",
                {"stream_name": consumer.stream, "config": consumer_config(consumer), "action": "create"},
            )
        except ApiError as error:
            if error.err_code == STREAM_NOT_FOUND:
                raise StreamMissing(f"stream {consumer.stream} does not exist") from error
            raise


async def verify(
    connection: Connection, replicas: int | None = None, buckets: Iterable[BucketDefinition] = BUCKETS
) -> None:
    """Verify everything and change nothing (see Bus.verify)."""
    differences: list[str] = []
    streams: set[str] = set()
    for config in _stream_configs(replicas, buckets):
        found = await _stream(connection, config["name"])
        if found is not None:
            streams.add(config["name"])
        differences += _compare(f"stream {config['name']}", config, found)
    for consumer in CONSUMERS:
        if consumer.stream in streams:
            found = await _consumer(connection, consumer)
            differences += _compare(f"consumer {consumer.name}", consumer_config(consumer), found)
    if all(difference.endswith(MISSING) for difference in differences) and differences:
        raise DefinitionMissing(f"{'; '.join(differences)} (persistence creates it, or says why not)")
    if differences:
        raise DefinitionMismatch("; ".join(differences))


async def reset_consumer(connection: Connection, consumer: ConsumerDefinition, start: int) -> None:
    """Make a consumer deliver again from a position (see Bus.reset_consumer)."""
    if await _consumer(connection, consumer) is None:  # the server does not answer a reset of it
        raise ConsumerLost(f"{consumer.name} does not exist")
    try:
        # The server accepts a start beyond the end, and delivers nothing until the stream has grown so far.
        info = await connection.api(f"STREAM.INFO.{consumer.stream}")
        if start > info["state"]["last_seq"] + 1:
            raise StreamReplaced(
                f"stream {consumer.stream} ends at {info['state']['last_seq']}, "
                f"but was read up to {start - 1}: it was recreated or restored"
            )
        await connection.api(f"CONSUMER.RESET.{consumer.stream}.{consumer.name}", {"seq": max(start, 1)})
    except ApiError as error:
        raise ConsumerLost(f"{consumer.name} cannot be reset to {start}: {error}") from error


def _stream_configs(replicas: int | None, buckets: Iterable[BucketDefinition]) -> list[Config]:
    # Not part of the definition: an operator may change it, unless a setting says how many there are.
    extra = {} if replicas is None else {"num_replicas": replicas}
    configs = [stream_config(stream) for stream in STREAMS] + list(map(bucket_config, buckets))
    return [config | extra for config in configs]


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
        return [f"{what} {MISSING}"]
    return [
        f"{what}: {name} is {found.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if name not in TUNABLE and not _same(value, found.get(name))
    ]


def _same(wanted: object, found: object) -> bool:
    if isinstance(wanted, Mapping):  # the server adds its own metadata
        actual = found if isinstance(found, Mapping) else {}
        return all(actual.get(name) == value for name, value in wanted.items())
    if wanted is False:  # the server omits false values
        return not found
    return wanted == found
