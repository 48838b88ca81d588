"""What is not valid gets a message of our own and a code, under the name of its parameter."""

from typing import Any

import httpx
import pytest

from antiphon.chassis.validation_messages import message_of

SESSION = "ses_00000000000000000000000000"
OF_PYDANTIC = ("Input should", "String should", "Value should", "Field required", "unable to parse", "List ")


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("events?session_id=nope", "session_id", "takes the id of a session: ses_ and 26"),
        ("events?limit=5000", "limit", "takes at most 1000"),
        ("events?limit=0", "limit", "takes at least 1"),
        ("events?limit=many", "limit", "takes an integer"),
        ("events?limit=1.5", "limit", "takes an integer"),
        ("events?limit=" + "9" * 5000, "limit", "takes an integer of fewer digits"),
        ("events?type=turn.save", "type", "did you mean turn.saved?"),
        ("events?type=turn.saved&type=nope", "type", "takes one of"),
        ("events?family=nope", "family", "takes one of"),
        ("events?after=", "after", "takes at least 1 character"),
        ("events?after=now&since=2026-01-01T00:00:00Z", "since", "takes no `after`"),
        ("events/export?without_pii=yes", "without_pii", "takes 'true' or 'false'"),
        ("sessions?status=gone", "status", "takes '"),
        ("sessions?limit=500", "limit", "takes at most 200"),
        (f"sessions/{SESSION}?at=foo", "at", "takes an integer"),
        (f"sessions/{SESSION}?at=1&at_time=2026-01-01T00:00:00Z", "at_time", "takes no at"),
        (f"sessions/{SESSION}?at=1&wait=ready", "wait", "takes no at or at_time"),
        (f"sessions/{SESSION}/events?after=-1", "after", "takes at least 0"),
        (f"sessions/{SESSION}/turns?limit=", "limit", "takes an integer"),
        ("analytics/daily?from=2000-01-01", "from", "takes at most 366 days"),
    ],
)
async def test_a_parameter(path: str, field: str, message: str, client: httpx.AsyncClient) -> None:
    response = await client.get(f"/v1/{path}")

    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert (error["field"], error["in"]) == (field, "query")
    assert error["message"].startswith(message)
    assert error["code"]
    assert response.json()["detail"] == f"Not valid: {field}."
    assert not any(text in response.text for text in OF_PYDANTIC)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "user_id", "is missing"),
        ({"user_id": 7}, "user_id", "takes a text"),
        ({"user_id": ""}, "user_id", "takes at least 1 character"),
        ({"user_id": "x" * 300}, "user_id", "takes at most 256 characters"),
        ({"user_id": "a\n"}, "user_id", "takes no control characters"),
        ({"user_id": "a", "flow_revision": 0}, "flow_revision", "takes at least 1"),
        ({"user_id": "a", "flow_revision": "1"}, "flow_revision", "takes an integer"),
        ({"user_id": "a", "language": "English"}, "language", "takes a language as in BCP 47"),
        ({"user_id": "a", "metadata": []}, "metadata", "takes an object"),
        ({"user_id": "a", "colour": "red"}, "colour", "is not a field of this request"),
        ([], "body", "takes an object"),
    ],
)
async def test_a_field(body: Any, field: str, message: str, client: httpx.AsyncClient) -> None:
    sent = {"flow_id": "booking", **body} if isinstance(body, dict) else body
    response = await client.post("/v1/sessions", json=sent)

    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert (error["field"], error["in"]) == (field, "body")
    assert error["message"].startswith(message)
    assert error["code"]
    assert not any(text in response.text for text in OF_PYDANTIC)


async def test_a_member_of_a_list_in_a_body_has_its_place(client: httpx.AsyncClient, put_key: Any) -> None:
    await put_key("administrator", scopes=("admin",))
    response = await client.post(
        "/v1/keys",
        json={"name": "ci", "scopes": ["sessions:read", "nope"]},
        headers={"Authorization": "Bearer administrator"},
    )

    [error] = response.json()["errors"]
    assert error["field"] == "scopes.1"
    assert error["message"].startswith("takes 'sessions:read'")


def test_an_error_without_a_message_of_ours_keeps_pydantics() -> None:
    assert message_of({"type": "new", "msg": "Input should be a colour"}) == "takes a colour"
    assert message_of({"type": "value_error", "msg": "Value error, takes a day"}) == "takes a day"
    unknown = {"type": "string_pattern_mismatch", "msg": "", "ctx": {"pattern": "^a$"}}
    assert message_of(unknown) == "does not match ^a$"
