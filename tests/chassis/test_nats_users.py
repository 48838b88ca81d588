"""Each user of the broker does its work, and is refused everything else: asked for directly or by a reply."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.chassis.bus.consumers import session, until
from tests.fixtures.locked_nats import (
    CONSUMER,
    TENANT,
    LockedServer,
    connected,
    may_publish,
    may_subscribe,
)

from antiphon.chassis.bus import Bus, BusUnavailable, NotPermitted, Outgoing, StreamFull
from antiphon.chassis.nats_config import Limits
from antiphon.chassis.nats_users import (
    CONNECTIONS,
    LOG_ACCOUNT,
    OPERATOR,
    InvalidName,
    consumer_user,
    tenant_user,
    users,
)
from antiphon.contracts.flows import FLOW_CHECK
from antiphon.contracts.streams import AUDIT
from antiphon.contracts.subjects import (
    PARTITIONS,
    committed_filter,
    event_subject,
    partition_of,
)
from antiphon.contracts.workers import ALL_WORKERS

SESSION = session(0)
EVENT = f"sessions.{partition_of(SESSION)}.{TENANT}.{SESSION}"
ACK = "$JS.ACK.SESSIONS.ingest-0.1.1.1.1767225600000000000.0"
GUESTS = ("webhook-ingest", "agent-worker", "recorder", "flow-publisher", "backup")
EVERYBODY = (*GUESTS, "session-api", "persistence", "fleet", f"consumer-{CONSUMER}", f"tenant-{TENANT}")

# What nobody but the operator may do; then what each may not do that another one may.
NOBODY_PUBLISHES = (
    "$JS.API.STREAM.DELETE.SESSIONS",
    "$JS.API.STREAM.PURGE.SESSIONS",
    "$JS.API.STREAM.DELETE.KV_keys",
    "$JS.API.STREAM.UPDATE.KV_keys",
    "$JS.API.STREAM.CREATE.mine",
    "$JS.API.STREAM.SNAPSHOT.SESSIONS",
    "$JS.API.STREAM.RESTORE.SESSIONS",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.NAMES.SESSIONS",
    "$JS.API.CONSUMER.CREATE.SESSIONS.mine",
    "$JS.API.CONSUMER.DURABLE.CREATE.SESSIONS.mine",
    "$JS.API.CONSUMER.CREATE.KV_keys.mine",
    "$JS.API.CONSUMER.DELETE.SESSIONS.ingest-0",
    f"$JS.API.CONSUMER.DELETE.SESSIONS.{CONSUMER}-0",
    f"$JS.API.CONSUMER.CREATE.SESSIONS.{CONSUMER}-0",
    "$JS.API.CONSUMER.PAUSE.SESSIONS.ingest-0",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.ACCOUNT.ANTIPHON.INFO",
    "_INBOX.persistence.a",
    "_INBOX.session-api.a",
    "_R_.a.b",
    "sessions.>",
    "elsewhere",
)
NOBODY_HEARS = (">", "*", "_INBOX.>", "_INBOX.*.*", "$SYS.>", "$JS.>", "_R_.>", "sessions.>", "sessions.*.>")
PUBLISHES = {
    f"{EVENT}.session": {"session-api", "agent-worker", "recorder"},
    f"{EVENT}.command": {"session-api"},
    f"{EVENT}.turn": {"agent-worker", "recorder"},
    f"{EVENT}.agent": {"agent-worker", "recorder"},
    f"{EVENT}.usage": {"agent-worker", "recorder"},
    f"{EVENT}.livekit": {"webhook-ingest"},
    f"{EVENT}.turn.more": set(),
    "$KV.keys.a": {"session-api"},
    "$KV.flows.a.b.1": {"session-api", "flow-publisher"},
    "$KV.flow_drafts.a": {"session-api"},
    "$KV.audit.a.b": {"session-api", "flow-publisher", "persistence"},
    "$KV.deployment.a": {"session-api", "persistence"},
    "$KV.rooms.a": {"agent-worker", "recorder"},
    "committed.0.acme.ses_1": {"persistence"},
    "live.workers.a": {"agent-worker"},
    FLOW_CHECK: {"session-api"},
    ACK: {"persistence"},
    "$JS.API.CONSUMER.MSG.NEXT.SESSIONS.ingest-0": {"persistence"},
    f"$JS.API.CONSUMER.MSG.NEXT.SESSIONS.{CONSUMER}-0": {f"consumer-{CONSUMER}"},
    "$JS.API.STREAM.UPDATE.SESSIONS": {"persistence"},
    "$JS.API.STREAM.PURGE.KV_keys": {"session-api"},
    "$JS.API.DIRECT.GET.KV_keys": {"session-api", "backup"},
    "$JS.API.DIRECT.GET.KV_audit": {"session-api", "backup"},
    "$JS.API.STREAM.PURGE.KV_audit": set(),
    "$JS.API.DIRECT.GET.KV_flows": {"session-api", "agent-worker", "flow-publisher", "backup"},
    "$JS.API.STREAM.MSG.GET.KV_keys": {"session-api", "backup"},
    # with the info of a bucket come the names of its keys: digests of API keys, tenants, flows
    "$JS.API.STREAM.INFO.KV_keys": {"session-api", "backup", "persistence"},
    "$JS.API.STREAM.INFO.KV_audit": {"session-api", "backup", "persistence", "flow-publisher"},
    "$JS.API.STREAM.INFO.KV_flow_drafts": {"session-api", "backup", "persistence"},
    "$JS.API.DIRECT.GET.SESSIONS": {
        "session-api",
        "webhook-ingest",
        "agent-worker",
        "recorder",
        "backup",
        "persistence",
    },
    f"dead.{CONSUMER}": {f"consumer-{CONSUMER}"},
}
HEARS = {
    "sessions.*.*.*.>": {"session-api"},
    "sessions.*.*.*.command": {"session-api", "agent-worker"},
    f"sessions.*.{TENANT}.>": {f"tenant-{TENANT}"},
    "sessions.*.other.>": set(),
    "sessions.*.*.*.turn": {"session-api"},
    committed_filter(): {"session-api", "persistence"},
    "$KV.keys.>": {"session-api"},
    "$KV.flows.>": {"session-api", "agent-worker"},
    ALL_WORKERS: {"fleet"},
}


@pytest.mark.parametrize("user", EVERYBODY)
async def test_a_user_is_refused_what_is_not_its_own(
    locked_server: LockedServer, operator: Bus, user: str
) -> None:
    async with connected(locked_server, user) as bus:
        for subject in NOBODY_PUBLISHES:
            assert not await may_publish(bus, subject), subject
        for subject in NOBODY_HEARS:
            assert not await may_subscribe(bus, subject), subject
        for other in (OPERATOR, *EVERYBODY):
            assert await may_subscribe(bus, f"_INBOX.{other}.a") is (
                other == user and not user.startswith("tenant-")
            ), other
        for subject, permitted in PUBLISHES.items():
            assert await may_publish(bus, subject) is (user in permitted), subject
        for subject, permitted in HEARS.items():
            assert await may_subscribe(bus, subject) is (user in permitted), subject


async def test_the_operator_may_do_everything(locked_server: LockedServer, operator: Bus) -> None:
    assert all([await may_publish(operator, subject) for subject in PUBLISHES])
    assert all([await may_subscribe(operator, subject) for subject in HEARS])


def _key(user: str) -> str:
    return f"forged-by-{user}"


def _targets(user: str) -> list[str]:
    """Return reply subjects that would do harm, if the server wrote its answer there."""
    targets = (
        f"$KV.keys.{_key(user)}",
        f"$KV.deployment.forged-{user}",
        f"sessions.0.{TENANT}.{session(1)}.turn",
        f"sessions.0.{TENANT}.{session(1)}.command",
        f"sessions.0.{TENANT}.{session(1)}.livekit",
        "$JS.API.STREAM.PURGE.SESSIONS",
        "$JS.API.STREAM.DELETE.KV_rooms",
        "$JS.API.CONSUMER.DELETE.SESSIONS.ingest-0",
        ACK,
        f"$JS.ACK.SESSIONS.{CONSUMER}-0.1.1.1.1767225600000000000.0",
        f"committed.0.{TENANT}.{session(1)}",
        "_INBOX.persistence.a",
        "_INBOX.session-api.a",
    )
    own = users(consumers=(CONSUMER,))[user].publish
    return [target for target in targets if not any(_covers(right, target) for right in own)]


def _covers(right: str, subject: str) -> bool:
    pattern, tokens = right.split("."), subject.split(".")
    if pattern[-1] == ">":
        return len(tokens) >= len(pattern) and _matches(pattern[:-1], tokens[: len(pattern) - 1])
    return len(pattern) == len(tokens) and _matches(pattern, tokens)


def _matches(pattern: list[str], tokens: list[str]) -> bool:
    return all(wanted in ("*", token) for wanted, token in zip(pattern, tokens, strict=True))


# Requests whose answers hold what a client has stored, nothing at all, or words of the server.
ANSWERED = {
    "$JS.API.DIRECT.GET.KV_rooms": {"last_by_subj": "$KV.rooms.evil"},
    "$JS.API.DIRECT.GET.SESSIONS": {"last_by_subj": "sessions.probe"},
    "$JS.API.DIRECT.GET.KV_flows": {"last_by_subj": "$KV.flows.evil"},
    "$JS.API.STREAM.MSG.GET.SESSIONS": {"last_by_subj": "sessions.probe"},
    f"$JS.API.CONSUMER.MSG.NEXT.SESSIONS.{CONSUMER}-0": {"batch": 1, "no_wait": True},
    "$JS.API.STREAM.INFO.SESSIONS": None,
    "sessions.probe": None,
}


async def _attack(operator: Bus, attacker: Bus, user: str) -> dict[str, int]:
    """Name harmful reply subjects in requests; return how many messages came to which of them."""
    for bucket in ("rooms", "flows"):
        await (await operator.bucket(bucket)).put("evil", b"")
    heard: dict[str, int] = {}
    targets = _targets(user)
    for target in targets:

        def count(_: object, target: str = target) -> None:
            heard[target] = heard.get(target, 0) + 1

        await operator.connection.subscribe(target, count)
    await operator.connection.round_trip()
    rights = users(consumers=(CONSUMER,))[user].publish
    for request, body in ANSWERED.items():
        if request in rights:
            payload = b"" if body is None else json.dumps(body).encode()
            for target in targets:
                await attacker.connection.publish(request, payload, reply=target)
                await attacker.connection.publish(request, payload, {"Nats-Trace-Dest": target})
    await attacker.connection.round_trip()
    with_answer = [request for request in ANSWERED if request in rights and request.startswith("$JS.API.S")]
    for request in with_answer:  # an answer to the last one: the server is done with those before
        await attacker.connection.request(request, b"{}" if "MSG" in request else b"")
    await asyncio.sleep(0.2)
    await operator.connection.round_trip()
    return heard


@pytest.mark.parametrize("user", [*GUESTS, f"consumer-{CONSUMER}"])
async def test_a_reply_subject_makes_the_server_write_nothing(
    locked_server: LockedServer, operator: Bus, user: str
) -> None:
    before = await operator.stream_state()
    await _publish_probe(operator)
    async with connected(locked_server, user) as attacker:
        assert await _attack(operator, attacker, user) == {}

    assert await (await operator.bucket("keys")).get(_key(user)) is None
    after = await operator.stream_state()
    assert before is not None
    assert after is not None
    assert after.first == max(1, before.first)
    assert await operator.has_bucket("rooms")


async def _publish_probe(bus: Bus) -> None:
    await bus.publish(Outgoing("sessions.probe", b"", message_id=""))


async def test_without_an_account_of_its_own_the_same_reply_forges_a_key(tmp_path: Path) -> None:
    """The case that must fail: permissions alone stop nobody."""
    shared = {name: replace(rights, account=LOG_ACCOUNT) for name, rights in users().items()}
    server = LockedServer(tmp_path / "nats", rights=shared)
    server.launch()
    try:
        async with connected(server, OPERATOR) as operator:
            await operator.ensure()
            await _publish_probe(operator)
            async with connected(server, "agent-worker") as attacker:
                heard = await _attack(operator, attacker, "agent-worker")
            assert await (await operator.bucket("keys")).get(_key("agent-worker")) is not None
            assert f"sessions.0.{TENANT}.{session(1)}.livekit" in heard
            assert "_INBOX.session-api.a" in heard
    finally:
        server.kill()


async def test_what_is_open_session_api_is_trusted_with_the_account_of_the_log(
    locked_server: LockedServer, operator: Bus
) -> None:
    """Documented in ADR 34: it writes keys and commands anyway, and hears what agents publish."""
    await _publish_probe(operator)
    async with connected(locked_server, "session-api") as api:
        assert not await may_publish(api, f"{EVENT}.turn")
        target = f"sessions.0.{TENANT}.{session(2)}.turn"
        heard = await operator.subscribe(target)
        body = json.dumps({"last_by_subj": "sessions.probe"}).encode()
        await api.connection.publish("$JS.API.DIRECT.GET.SESSIONS", body, reply=target)
        assert await heard.next(10) is not None


async def test_what_is_open_ids_and_buckets_are_shared_by_those_who_write(
    locked_server: LockedServer, operator: Bus
) -> None:
    """Documented in ADR 34."""
    rooms = await operator.bucket("rooms")
    await rooms.put("of-another", b"{}")
    async with connected(locked_server, "agent-worker", "webhook-ingest") as (agent, hooks):
        await agent.connection.request("$KV.rooms.mine", b"{}", {"Nats-Rollup": "all"})
        assert await rooms.keys() == ["mine"]
        await agent.publish(Outgoing(f"{EVENT}.turn", b"{}", message_id="of a webhook"))
        assert (await hooks.publish(Outgoing(f"{EVENT}.livekit", b"{}", message_id="of a webhook"))).duplicate


async def test_an_account_that_is_full_delays_events_and_refuses_none(tmp_path: Path) -> None:
    """The limit of all streams together; ADR 34 says who can reach it."""
    room = 4 << 20
    limits = Limits(file_bytes=AUDIT.max_bytes + 2 * room)
    server = LockedServer(tmp_path / "nats", rights=users(), limits=limits)
    server.launch()
    try:
        async with connected(server, OPERATOR) as operator:
            await operator.ensure(max_bytes=room)
            fill = {"name": "fill", "subjects": ["fill"], "storage": "file"}
            await operator.connection.api("STREAM.CREATE.fill", fill)
            for size in (900_000, 9_000, 100, 1):
                stored = b""
                while b"error" not in stored:
                    stored = (await operator.connection.request("fill", bytes(size))).data
            async with connected(server, "recorder") as recorder:
                with pytest.raises(StreamFull, match="account"):
                    await recorder.publish(Outgoing(f"{EVENT}.turn", b"{}", message_id=""), timeout_seconds=1)
    finally:
        server.kill()


async def test_a_tenant_hears_its_own_events_and_never_a_byte_of_others(
    locked_server: LockedServer, operator: Bus
) -> None:
    async with connected(locked_server, f"tenant-{TENANT}", "recorder") as (bus, recorder):
        heard: list[str] = []
        await bus.connection.subscribe(
            f"sessions.*.{TENANT}.>", lambda message: heard.append(message.subject)
        )
        await bus.connection.subscribe("sessions.*.other.>", lambda message: heard.append(message.subject))
        await bus.connection.subscribe("sessions.*.*.>", lambda message: heard.append(message.subject))
        with suppress(NotPermitted):
            await bus.connection.round_trip()
        for tenant in ("other", TENANT):
            subject = event_subject(tenant, SESSION, "turn")
            await recorder.publish(Outgoing(subject, b"{}", message_id=""))  # from an account of its own
        await until(lambda: f"{EVENT}.turn" in heard)
        assert heard == [f"{EVENT}.turn"]


async def test_a_consumer_does_not_take_the_connections_of_others(
    locked_server: LockedServer, operator: Bus
) -> None:
    consumer = f"consumer-{CONSUMER}"
    async with connected(locked_server, *[consumer] * CONNECTIONS):
        with pytest.raises(BusUnavailable, match="maximum account active connections exceeded"):
            await Bus.connect(locked_server.access(consumer), name=consumer, connect_timeout_seconds=2)
        async with connected(locked_server, "session-api", "recorder", f"tenant-{TENANT}"):
            pass
    async with connected(locked_server, consumer):
        pass


async def test_a_missing_permission_is_named_at_once(locked_server: LockedServer, operator: Bus) -> None:
    async with connected(locked_server, "webhook-ingest") as bus:
        began = datetime.now(UTC)
        with pytest.raises(NotPermitted, match=rf'"{EVENT}\.turn"'):
            await bus.publish(Outgoing(f"{EVENT}.turn", b"{}", message_id=""), timeout_seconds=60)
        with pytest.raises(NotPermitted, match=r"\$JS\.API\.STREAM\.DELETE\.SESSIONS"):
            await bus.connection.api("STREAM.DELETE.SESSIONS", timeout_seconds=60)
        with pytest.raises(NotPermitted, match=r"sessions\.\*\.\*\.\*\.>"):
            await bus.subscribe("sessions.*.*.*.>")
        assert (datetime.now(UTC) - began).total_seconds() < 30  # of deadlines of 60


@pytest.mark.parametrize("name", ["*", ">", "a.b", "", "a b", "A", "acme.>", "$SYS", "a" * 64, 'a"b', "a\nb"])
def test_a_tenant_whose_name_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="not the name of a tenant"):
        tenant_user(name)


@pytest.mark.parametrize("name", ["*", ">", "a.b", "", "a b", "a" * 49, "ingest"])
def test_a_consumer_whose_name_is_no_token_or_taken_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        consumer_user(name)
    assert len(consumer_user("ok")[1].reads) == PARTITIONS
