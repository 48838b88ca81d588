"""Personal fields are left out: of every golden example, in any version, and wherever a schema marks them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from msgspec import Raw, Struct

from antiphon.contracts import pii, upcasters
from antiphon.contracts.envelope import SCHEMA_BASE, Envelope, decode, encode, seal
from antiphon.contracts.event import Event, Family, PersonalMap, PersonalText
from antiphon.contracts.events.agent import AgentLeft, AgentLost
from antiphon.contracts.events.livekit import LiveKitRoomStarted
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    ParticipantSummary,
    SessionAdopted,
    SessionClosed,
    SessionFailed,
    SessionRequested,
)
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import EVENTS
from antiphon.contracts.schemas import event_schema

GOLDEN = sorted((Path(__file__).parents[2] / "contracts" / "examples").glob("*/*.json"))
SCHEMAS = {event.TYPE: event_schema(event) for event in EVENTS}
SECRET = "Ada Lovelace, +44 20 7946 0000"

Json = dict[str, Any]


def marks(schema: Json, root: Json) -> Iterator[Json]:
    """Yield a schema and those that it refers to or chooses from."""
    yield schema
    if "$ref" in schema:
        yield from marks(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for option in schema.get("anyOf", ()):
        yield from marks(option, root)


def poisoned(value: Any, schema: Json, root: Json) -> Any:
    """Return a value whose personal parts are SECRET."""
    found = list(marks(schema, root))
    if any(each.get("x-pii") for each in found):
        return {"name": SECRET} if isinstance(value, dict) else None if value is None else SECRET
    if isinstance(value, dict):
        members = {name: member for each in found for name, member in each.get("properties", {}).items()}
        return {
            name: poisoned(each, members[name], root) if name in members else each
            for name, each in value.items()
        }
    if isinstance(value, list):
        [items] = [each["items"] for each in found if "items" in each]
        return [poisoned(each, items, root) for each in value]
    return value


def expected(value: Any, schema: Json, root: Json) -> Any:
    """Return a value without the members that its schema marks."""
    found = list(marks(schema, root))
    if isinstance(value, dict):
        members = {name: member for each in found for name, member in each.get("properties", {}).items()}
        if not members:
            return value
        return {
            name: expected(each, members[name], root)
            for name, each in value.items()
            if not any(mark.get("x-pii") for mark in _all_marks(members[name], root))
        }
    if isinstance(value, list):
        [items] = [each["items"] for each in found if "items" in each]
        return [expected(each, items, root) for each in value]
    return value


def _all_marks(schema: Json, root: Json) -> Iterator[Json]:
    for each in marks(schema, root):
        yield each
        if "items" in each:
            yield from marks(each["items"], root)


def personal_members(node: Any) -> int:
    """Count the marks of a schema."""
    if isinstance(node, dict):
        return ("x-pii" in node) + sum(personal_members(member) for member in node.values())
    return sum(personal_members(member) for member in node) if isinstance(node, list) else 0


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_personal_text_of_an_example_is_left(path: Path) -> None:
    document = json.loads(path.read_text())
    schema = SCHEMAS[document["type"]]
    document["data"] = poisoned(document["data"], schema, schema)

    left = encode(pii.without_pii(decode(json.dumps(document))))

    assert SECRET.encode() not in left
    data = json.loads(left)["data"]
    wanted = expected(document["data"], schema, schema)
    assert {name: data[name] for name in wanted} == wanted
    assert {**json.loads(left), "data": {}, "time": None} == {**document, "data": {}, "time": None}


def test_the_examples_poison_every_marked_field() -> None:
    seen = {json.loads(path.read_text())["type"] for path in GOLDEN}

    assert seen == SCHEMAS.keys()
    for event in EVENTS:
        stripped = json.dumps(msgspec.json.schema(pii.impersonal_type(event)))
        assert "x-pii" not in stripped, event.TYPE
        if not personal_members(SCHEMAS[event.TYPE]):
            names = {field.name for field in msgspec.structs.fields(event)}
            assert {field.name for field in msgspec.structs.fields(pii.impersonal_type(event))} == names


def sealed(event: Event) -> Envelope:
    return seal(
        event,
        id="1",
        session_id="ses_01m7yq1we0eqq9xvayxnfetqqd",
        tenant="default",
        producer="test",
        producerseq=1,
        time=datetime(2026, 1, 2, tzinfo=UTC),
    )


def test_personal_fields_of_structs_within_a_list_are_left_out() -> None:
    closed = SessionClosed(
        reason="error",  # type: ignore[arg-type]
        fault="none",  # type: ignore[arg-type]
        duration_seconds=1.0,
        turns=2,
        participants=[ParticipantSummary(identity=SECRET, kind="sip")],
    )

    data = json.loads(bytes(pii.without_pii(sealed(closed)).data))

    assert data["participants"] == [{"kind": "sip", "joined_at": None, "left_at": None}]
    assert "summary" not in data


@pytest.mark.parametrize(
    "event",
    [
        SessionClosed(
            reason=CloseReason.ERROR, fault=FaultSide.AGENT, duration_seconds=1.0, turns=2, detail=SECRET
        ),
        SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1, detail=SECRET),
        AgentLeft(
            job_id="j",
            epoch="e",
            reason="error",
            fault=FaultSide.AGENT,
            duration_seconds=1.0,
            turns=2,
            detail=SECRET,
        ),
        AgentLost(job_id="j", noticed_by="process_exit", detail=SECRET),
        SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=SECRET),
        SessionAdopted(room=SECRET),
        LiveKitRoomStarted(webhook_id="w", room=SECRET, payload={}),
    ],
    ids=lambda event: event.TYPE,
)
def test_error_texts_and_names_of_rooms_are_personal(event: Event) -> None:
    # an agent's exception may quote the caller, and LiveKit names the room of a call after its number
    assert SECRET.encode() not in encode(pii.without_pii(sealed(event)))


def test_a_field_that_the_schema_does_not_have_is_left_out() -> None:
    envelope = sealed(TurnSaved(turn=1, agent_id="host", metrics={"e2e_latency": 0.4}))
    newer = json.loads(bytes(envelope.data)) | {"mood": SECRET}

    left = pii.without_pii(msgspec.structs.replace(envelope, data=Raw(json.dumps(newer).encode())))

    assert SECRET.encode() not in bytes(left.data)
    assert json.loads(bytes(left.data))["metrics"] == {"e2e_latency": 0.4}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "mood.changed", "dataschema": f"{SCHEMA_BASE}/mood.changed/1"},
        {"dataschema": f"{SCHEMA_BASE}/turn.saved/{TurnSaved.VERSION + 1}"},
        {"dataschema": "nothing"},
        {"data": Raw(b'{"turn": "' + SECRET.encode() + b'"}')},
    ],
    ids=["type", "version", "no version", "malformed"],
)
def test_what_cannot_be_read_keeps_no_body(change: Json) -> None:
    envelope = msgspec.structs.replace(
        sealed(TurnSaved(turn=1, agent_id="host", user_text=SECRET)), sequence=3, **change
    )

    left = pii.without_pii(envelope)

    assert bytes(left.data) == b"{}"
    assert (left.type, left.dataschema, left.sequence) == (envelope.type, envelope.dataschema, 3)


def test_an_older_version_is_upcast_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnSaved, "VERSION", 2)
    step = {("turn.saved", 1): lambda body: {**body, "assistant_text": body.pop("answer"), "agent_id": "a"}}
    monkeypatch.setattr(upcasters, "UPCASTERS", step)
    old = msgspec.structs.replace(
        sealed(TurnSaved(turn=1, agent_id="host")),
        data=Raw(b'{"turn": 4, "answer": "%s"}' % SECRET.encode()),
        dataschema=f"{SCHEMA_BASE}/turn.saved/1",
    )

    left = pii.without_pii(old)

    assert left.dataschema.endswith("/turn.saved/2")
    assert json.loads(bytes(left.data))["turn"] == 4
    assert SECRET.encode() not in encode(left)


def test_every_way_to_mark_a_field_is_found() -> None:
    class Inner(Struct, frozen=True, kw_only=True):
        name: PersonalText
        size: int = 0

    class Every(Event, frozen=True, kw_only=True):
        TYPE: ClassVar[str] = "test.every"
        FAMILY: ClassVar[Family] = Family.SESSION

        plain: PersonalText
        maybe: PersonalText | None = None
        marked: Annotated[str | None, msgspec.Meta(extra_json_schema={"x-pii": True})] = None
        many: list[PersonalText] = []  # noqa: RUF012 - msgspec copies it
        free: PersonalMap = {}  # noqa: RUF012 - msgspec copies it
        by_name: dict[str, PersonalText] = {}  # noqa: RUF012 - msgspec copies it
        inner: Inner | None = None
        inners: dict[str, list[Inner]] = {}  # noqa: RUF012 - msgspec copies it
        kept: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it

    fields = {field.name: field for field in msgspec.structs.fields(pii.impersonal_type(Every))}

    assert fields.keys() == {"inner", "inners", "kept"}
    stripped = msgspec.json.decode(
        b'{"plain":"x","inner":{"name":"x","size":2},"inners":{"a":[{"name":"x"}]},"kept":{"a":1}}',
        type=pii.impersonal_type(Every),
    )
    assert msgspec.to_builtins(stripped) == {
        "inner": {"size": 2},
        "inners": {"a": [{"size": 0}]},
        "kept": {"a": 1},
    }
