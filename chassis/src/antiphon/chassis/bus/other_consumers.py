"""The durables of others than persistence on the stream of events, and how they outlive its replacement.

The server deletes the durables of a stream with it, and with them what they have not handled.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.durable import ALREADY_EXISTS
from antiphon.chassis.bus.errors import ApiError, BusUnavailable
from antiphon.chassis.bus.messages import Outgoing
from antiphon.chassis.bus.publish import PUBLISH_DEADLINE_SECONDS, publish_many
from antiphon.chassis.bus.replace import CONSUMERS, UNREAD
from antiphon.chassis.bus.stored import message_at
from antiphon.contracts.streams import CONSUMERS as OURS
from antiphon.contracts.streams import SESSIONS

CATCH_UP_SECONDS = 5.0  # in which a consumer that runs handles the last events
LOOK_SECONDS = 0.25
OUR_NAMES = frozenset(consumer.name for consumer in OURS if consumer.stream == SESSIONS.name)
SERVERS_METADATA = "_nats."  # a prefix


class Behind(msgspec.Struct, frozen=True):
    """A durable with events that it has not handled; these are their numbers."""

    name: str
    undelivered: int
    unacknowledged: int


class SetAside(msgspec.Struct):
    """What becomes of the durables: the configurations of those to be made again, and the dropped ones."""

    kept: list[dict[str, Any]]
    dropped: list[Behind]


async def behind(connection: Connection) -> list[Behind]:
    """Return the durables of others that had unhandled events at each look, for some seconds.

    Raises ApiError, BusUnavailable.
    """
    deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
    found = {each.name: each for each in map(_behind, await _durables(connection)) if each}
    while found and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        now = {each.name: each for each in map(_behind, await _durables(connection)) if each}
        found = {name: now[name] for name in found if name in now}
    return list(found.values())


async def set_aside(connection: Connection, dropped: Sequence[Behind]) -> None:
    """Store the configurations of the durables of others with the copies, without those that are dropped.

    Raises ApiError, BusUnavailable.
    """
    names = {each.name for each in dropped}
    kept = [_fresh(info["config"]) for info in await _durables(connection) if info["name"] not in names]
    stored = msgspec.json.encode(SetAside(kept, list(dropped)))
    limit = connection.client.max_payload
    if len(stored) > limit:
        raise ApiError(
            {"description": f"the consumers of {SESSIONS.name} need {len(stored)} of {limit} bytes"}
        )
    await publish_many(connection, [Outgoing(CONSUMERS, stored, "")], PUBLISH_DEADLINE_SECONDS)


async def read_set_aside(connection: Connection) -> SetAside | None:
    """Return what was set aside, None if nothing was.

    Raises ApiError, BusUnavailable.
    """
    message = await message_at(connection, UNREAD, {"last_by_subj": CONSUMERS})
    return None if message is None else msgspec.json.decode(message.payload, type=SetAside)


async def restore(connection: Connection) -> list[Behind]:
    """Make the durables on the new stream, to deliver all that it has; return those that are dropped.

    Raises ApiError, BusUnavailable.
    """
    found = await read_set_aside(connection)
    if found is None:
        return []
    for config in found.kept:
        await _restore(connection, config)
    return found.dropped


async def _restore(connection: Connection, config: dict[str, Any]) -> None:
    durable = f"{SESSIONS.name}.{config['name']}"
    body = {"stream_name": SESSIONS.name, "config": config, "action": "create"}
    try:
        await connection.api(f"CONSUMER.CREATE.{durable}", body)
    except ApiError as error:
        if error.err_code not in ALREADY_EXISTS:
            raise
        # Its process has made it: if only for what comes from then on, it would skip events.
        info = await connection.api(f"CONSUMER.INFO.{durable}")
        if info["config"].get("deliver_policy") != "all":
            await connection.api(f"CONSUMER.DELETE.{durable}")
            await connection.api(f"CONSUMER.CREATE.{durable}", body)


async def _durables(connection: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    total = 1
    while len(found) < total:
        page = await connection.api(f"CONSUMER.LIST.{SESSIONS.name}", {"offset": len(found)})
        if page.get("missing"):
            raise BusUnavailable(f"consumers do not answer: {', '.join(page['missing'])}")
        total = page["total"]
        if not page.get("consumers"):
            break
        found += page["consumers"]
    return [info for info in found if info["config"].get("durable_name") and info["name"] not in OUR_NAMES]


def _behind(info: dict[str, Any]) -> Behind | None:
    if not info["num_pending"] and not info["num_ack_pending"]:
        return None
    return Behind(info["name"], info["num_pending"], info["num_ack_pending"])


def _fresh(config: dict[str, Any]) -> dict[str, Any]:
    started = ("deliver_policy", "opt_start_seq", "opt_start_time")
    config = {key: value for key, value in config.items() if key not in started}
    metadata = config.get("metadata") or {}
    config["metadata"] = {key: text for key, text in metadata.items() if not key.startswith(SERVERS_METADATA)}
    return {"name": config["durable_name"], **config, "deliver_policy": "all"}
