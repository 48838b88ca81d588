"""A session and its turns as they were after an event, and at a time."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.contracts.strategies import EPOCH, history
from tests.session_api.conformance import Conformance
from tests.session_api.sessions.past import (
    CALL,
    SESSION,
    call,
    real_call,
    record,
    session_after,
    turns_after,
)

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.session import FOLD_VERSION
from antiphon.contracts.turns import TURNS_VERSION
from antiphon.session_api.reference import openapi_document
from antiphon.session_api.sessions import history as history_module

PATH = f"/v1/sessions/{SESSION}"
UNKNOWN = "ses_00000000000000000000000000"
READY = AgentReady(greeting="Good evening.", ready_ms=640.0)


@pytest.fixture
async def recorded(database: Database) -> list[Envelope]:
    """A call on record."""
    envelopes = call()
    await record(database, envelopes)
    return envelopes


def kind(response: httpx.Response) -> str:
    return str(response.json()["type"]).rpartition("/")[2]


async def test_after_every_event_the_session_and_its_turns_are_those_of_the_events_before(
    client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = real_call()
    await record(database, envelopes)
    path = f"/v1/sessions/{envelopes[0].subject}"
    for count in range(1, len(envelopes) + 1):
        session, turns = [await client.get(path + part, params={"at": count}) for part in ("", "/turns")]

        assert session.json() == session_after(envelopes[:count])
        assert turns.json() == {"turns": turns_after(envelopes[:count]), "next": None}
    assert (session.json()["status"], len(turns.json()["turns"])) == ("closed", 5)


async def test_after_every_event_the_session_is_the_fold_of_those_before(
    client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    for count in range(1, len(recorded) + 1):
        response = await client.get(PATH, params={"at": count})

        assert response.json() == session_after(recorded[:count])
        assert response.json()["sequence"] == count
        assert response.headers["antiphon-sequence"] == str(count)


async def test_after_every_event_the_turns_are_those_of_the_events_before(
    client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    shown = []
    for count in range(1, len(recorded) + 1):
        response = await client.get(f"{PATH}/turns", params={"at": count})

        assert response.json() == {"turns": turns_after(recorded[:count]), "next": None}
        assert response.headers["antiphon-sequence"] == str(count)
        shown.append([turn["state"] for turn in response.json()["turns"]])
    assert shown[9] == ["saved", "open"]
    assert shown[15] == ["saved", "saved", "open"]
    assert shown[17] == ["saved", "saved", "unfinished", "unfinished"]


async def test_the_last_state_is_what_the_view_shows(
    client: httpx.AsyncClient, persistence: Any, session_id: str
) -> None:
    await persistence.commit(session_id, *CALL[1:])
    present = (await client.get(f"/v1/sessions/{session_id}")).json()

    past = await client.get(f"/v1/sessions/{session_id}", params={"at": present["sequence"]})

    assert past.json() == present


async def test_answers_are_as_documented(client: httpx.AsyncClient, recorded: list[Envelope]) -> None:
    conformance = Conformance(openapi_document())
    time = recorded[3].time.isoformat()

    for part in ("", "/turns"):
        for query in ("at=4", f"at_time={quote(time)}", "at=99", "at=0", f"at=4&at_time={quote(time)}"):
            conformance.check(await client.get(f"{PATH}{part}?{query}"))
        headers = {"If-None-Match": "*"}
        conformance.check(await client.get(PATH + part, params={"at": 4}, headers=headers))


# What says that it is history


async def test_history_is_kept_by_clients_and_names_the_present(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, *CALL[1:])
    for part in ("", "/turns"):
        path = f"/v1/sessions/{session_id}{part}"
        response = await client.get(path, params={"at": 6})

        assert response.headers["cache-control"] == "private, max-age=3600, immutable"
        assert response.headers["link"] == f'<{path}>; rel="latest-version"'
        assert "Authorization" in response.headers["vary"]
        present = await client.get(path)
        assert present.headers["cache-control"] == "private, no-cache"
        assert not {"antiphon-sequence", "link"} & present.headers.keys()


async def test_a_known_state_is_304_without_a_replay(
    client: httpx.AsyncClient, recorded: list[Envelope], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {
        part: await client.get(PATH + part, params={"at": 6}, headers={"Accept-Encoding": "identity"})
        for part in ("", "/turns")
    }
    monkeypatch.setattr(history_module.History, "_replayed", None)

    for part, response in first.items():
        etag = response.headers["etag"]
        assert etag.startswith('"'), "strong"
        for given_etag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await client.get(PATH + part, params={"at": 6}, headers={"If-None-Match": given_etag})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            assert again.headers["cache-control"] == "private, max-age=3600, immutable"
            assert again.headers["antiphon-sequence"] == "6"


async def test_a_compressed_state_has_a_weak_etag(client: httpx.AsyncClient, database: Database) -> None:
    await record(database, call(*[replace(READY, greeting="Good day. " * 500)]))

    plain = await client.get(PATH, params={"at": 19}, headers={"Accept-Encoding": "identity"})
    small = await client.get(PATH, params={"at": 19}, headers={"Accept-Encoding": "gzip"})

    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["etag"] == f"W/{plain.headers['etag']}"
    assert small.json() == plain.json()
    headers = {"If-None-Match": small.headers["etag"]}
    assert (await client.get(PATH, params={"at": 19}, headers=headers)).status_code == 304


async def test_another_fold_has_another_etag(
    client: httpx.AsyncClient, recorded: list[Envelope], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {
        part: (await client.get(PATH + part, params={"at": 6})).headers["etag"] for part in ("", "/turns")
    }
    for name, version in (("FOLD_VERSION", FOLD_VERSION), ("TURNS_VERSION", TURNS_VERSION)):
        monkeypatch.setattr(f"antiphon.session_api.past.{name}", version + 1)

    for part, etag in before.items():
        again = await client.get(PATH + part, params={"at": 6}, headers={"If-None-Match": etag})
        assert again.status_code == 200
        assert again.headers["etag"].removeprefix("W/") != etag.removeprefix("W/")


async def test_each_state_has_an_etag_of_its_own(client: httpx.AsyncClient, recorded: list[Envelope]) -> None:
    etags = [(await client.get(PATH, params={"at": n})).headers["etag"] for n in range(1, len(recorded) + 1)]

    assert len(set(etags)) == len(recorded)
    headers = {"If-None-Match": etags[4]}
    assert (await client.get(PATH, params={"at": 6}, headers=headers)).status_code == 200


# Ranges


@pytest.mark.parametrize("at", [0, -1, 19, 2**31, 10**30])
@pytest.mark.parametrize("part", ["", "/turns"])
async def test_an_event_that_there_is_not_names_the_range(
    at: int, part: str, client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    response = await client.get(PATH + part, params={"at": at})

    assert (response.status_code, kind(response)) == (422, "outside-history")
    problem = response.json()
    assert (problem["first_sequence"], problem["last_sequence"]) == (1, 18)
    assert problem["detail"] == "The session has the states after its events 1 to 18."
    assert response.headers["cache-control"] == "no-store"


async def test_a_time_before_the_first_event_names_that_of_the_first(
    client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    for part in ("", "/turns"):
        response = await client.get(PATH + part, params={"at_time": EPOCH.isoformat()})

        assert (response.status_code, kind(response)) == (422, "outside-history")
        assert response.json()["first_time"] == "2026-01-01T00:00:01Z"
        assert "2026-01-01T00:00:01Z" in response.json()["detail"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"at": 1, "at_time": "2026-01-01T00:00:01Z"}, "at_time"),
        ({"at": "x"}, "at"),
        ({"at": ""}, "at"),
        ({"at": "1.5"}, "at"),
        ({"at_time": "2026-01-01T00:00:01"}, "at_time"),
        ({"at_time": "yesterday"}, "at_time"),
        ({"at": 1, "wait": "ready"}, "wait"),
        ({"at_time": "2026-01-01T00:00:01Z", "wait": "ready"}, "wait"),
    ],
)
async def test_parameters_that_do_not_fit_are_named(
    params: dict[str, Any], field: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.get(PATH, params=params)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


async def test_a_session_of_others_and_one_that_there_is_not_are_unknown(
    client: httpx.AsyncClient, recorded: list[Envelope]
) -> None:
    for path, key in ((f"/v1/sessions/{UNKNOWN}", "writer"), (PATH, "foreign")):
        for params in ({"at": 1}, {"at": 99}, {"at_time": "2030-01-01T00:00:00Z"}):
            for part in ("", "/turns"):
                headers = {"Authorization": f"Bearer {key}", "If-None-Match": "*"}
                response = await client.get(path + part, params=params, headers=headers)
                assert (response.status_code, kind(response)) == (404, "unknown-session")


async def test_a_session_that_is_not_committed_yet_has_no_past(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    path = f"/v1/sessions/{session_id}"
    response = await client.get(path, params={"at": 1})

    assert (response.status_code, kind(response)) == (422, "outside-history")
    assert response.json()["last_sequence"] == 0
    assert "try again" in response.json()["detail"]

    await persistence.catch_up(session_id)
    assert (await client.get(path, params={"at": 1})).json()["status"] == "pending"


async def test_a_session_that_is_in_no_view_yet_has_a_past(
    client: httpx.AsyncClient, recorded: list[Envelope], database: Database
) -> None:
    assert await database.pool.fetch("select from sessions where session_id = $1", SESSION) == []

    assert (await client.get(PATH, params={"at": 5})).json()["status"] == "ready"


async def test_an_erased_session_has_no_past(
    client: httpx.AsyncClient, recorded: list[Envelope], database: Database
) -> None:
    await database.pool.execute("select erase_session($1)", SESSION)
    erased_at = await database.pool.fetchval("select erased_at from erased_sessions")

    for later in ([], history([READY] * 19)[18:]):
        await record(database, later)
        for part in ("", "/turns"):
            for params in ({"at": 5}, {"at": 19}, {"at_time": "2030-01-01T00:00:00Z"}):
                headers = {"If-None-Match": "*"}
                response = await client.get(PATH + part, params=params, headers=headers)
                assert (response.status_code, kind(response)) == (410, "history-erased")
                assert datetime.fromisoformat(response.json()["erased_at"]) == erased_at


async def test_a_session_that_is_erased_during_the_replay_has_no_past(
    client: httpx.AsyncClient,
    recorded: list[Envelope],
    database: Database,
    running: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = running.dependencies.log.read_page

    async def erasing(*args: Any, after: int, limit: int) -> Any:
        if after:
            await database.pool.execute("select erase_session($1)", SESSION)
        return await read(*args, after=after, limit=limit)

    monkeypatch.setattr(running.dependencies.log, "read_page", erasing)
    monkeypatch.setattr(history_module, "PAGE", 3)

    response = await client.get(PATH, params={"at": 9})

    assert (response.status_code, kind(response)) == (410, "history-erased")


async def test_events_that_cannot_be_read_are_counted_and_skipped(
    client: httpx.AsyncClient, database: Database
) -> None:
    envelopes = call()
    envelopes[6] = replace(envelopes[6], type="agent.sang")
    envelopes[7] = replace(envelopes[7], data=Raw(b'{"turn": "one"}'))
    envelopes[16] = replace(envelopes[16], dataschema="https://antiphon.dev/schemas/session.closed/9")
    await record(database, envelopes)

    assert (await client.get(PATH, params={"at": 8})).json()["skipped"] == 2
    turns = (await client.get(f"{PATH}/turns", params={"at": 18})).json()["turns"]
    assert turns == turns_after(envelopes)
    assert [turn["state"] for turn in turns] == ["open", "saved", "open", "open"]


async def test_an_unavailable_log_is_503(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get(PATH, params={"at": 1})

    assert (response.status_code, kind(response)) == (503, "database-unavailable")
