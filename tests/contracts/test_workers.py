"""Heartbeats of workers: what is sent is what is read, and nothing else is."""

import json
from datetime import UTC, datetime

import jsonschema
import msgspec
import pytest

from antiphon.contracts.generate import SCHEMAS
from antiphon.contracts.workers import (
    ALL_WORKERS,
    InvalidHeartbeat,
    WorkerHeartbeat,
    decode_heartbeat,
    worker_subject,
)

BEAT = WorkerHeartbeat(
    worker="agent-worker-7d9f-x2v4q-3f9a01",
    pod="agent-worker-7d9f-x2v4q",
    active_calls=3,
    capacity=10,
    draining=False,
    started_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
)
SCHEMA = json.loads((SCHEMAS / "worker.heartbeat.v1.schema.json").read_text())


def test_a_heartbeat_is_read_as_it_was_sent() -> None:
    payload = msgspec.json.encode(BEAT)

    jsonschema.validate(json.loads(payload), SCHEMA)
    assert decode_heartbeat(payload) == BEAT


def test_fields_of_later_versions_are_ignored() -> None:
    payload = msgspec.json.encode({**msgspec.to_builtins(BEAT), "colour": "green"})

    assert decode_heartbeat(payload) == BEAT


def test_a_worker_outside_of_kubernetes_and_without_a_fixed_number_of_calls() -> None:
    beat = msgspec.structs.replace(BEAT, pod=None, capacity=None)

    jsonschema.validate(json.loads(msgspec.json.encode(beat)), SCHEMA)
    assert decode_heartbeat(msgspec.json.encode(beat)) == beat


@pytest.mark.parametrize(
    "change",
    [
        {"worker": "a.b"},
        {"worker": ""},
        {"pod": "../secrets/x"},
        {"pod": "UPPER"},
        {"active_calls": -1},
        {"active_calls": 2**31},
        {"capacity": 0},
        {"draining": None},
        {"started_at": 5},
    ],
)
def test_what_is_no_heartbeat_is_refused(change: dict[str, object]) -> None:
    wrong = msgspec.to_builtins(BEAT) | change

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)
    with pytest.raises(InvalidHeartbeat):
        decode_heartbeat(msgspec.json.encode(wrong))


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidHeartbeat):
        decode_heartbeat(payload)


def test_the_subject_of_a_worker_is_one_of_all() -> None:
    assert worker_subject("w1").split(".")[:2] == ALL_WORKERS.split(".")[:2]
