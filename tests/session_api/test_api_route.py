"""Bodies are parsed as strict JSON; invalid ones are rejected with a problem document."""

import httpx
import pytest
from tests.session_api.fake_persistence import FakePersistence

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"flow_id": "booking",}',
        b'{"flow_id": NaN}',
        b'{"flow_id": "\\ud800"}',
        b'{"flow_id": "\xff"}',
        b"[" * 2000,
    ],
)
async def test_invalid_json_responds_400(body: bytes, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", content=body, headers=JSON)

    assert response.status_code == 400
    assert response.json()["type"].endswith("/malformed-json")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_other_media_type_responds_415(media_type: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post(
        "/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}', headers={"Content-Type": media_type}
    )

    assert response.status_code == 415
    assert response.json()["type"].endswith("/unsupported-media-type")


async def test_missing_media_type_responds_415(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}')

    assert response.status_code == 415


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
async def test_every_json_media_type_is_accepted(media_type: str, client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}', headers={"Content-Type": media_type}
    )

    assert response.status_code == 201


async def test_missing_body_responds_422(rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.post("/v1/sessions", headers=JSON)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("digits", [str(2**64), str(-(2**63) - 1), "1" + "0" * 30, "1" + "0" * 300])
async def test_an_integer_of_more_than_64_bits_responds_422(
    digits: str, rejecting: httpx.AsyncClient
) -> None:
    body = b'{"flow_id":"booking","user_id":"ada","metadata":{"a \\" 1":[%s]}}' % digits.encode()

    response = await rejecting.post("/v1/sessions", content=body, headers=JSON)

    assert response.status_code == 422
    assert "more than 64 bits" in response.json()["errors"][0]["message"]


async def test_large_numbers_that_are_kept_are_accepted(
    client: httpx.AsyncClient, persistence: FakePersistence
) -> None:
    numbers = {"a": 2**64 - 1, "b": -(2**63), "c": "9" * 40, "d": 1.5e300, "e": '"' + "9" * 30}
    body = {"flow_id": "booking", "user_id": "ada", "metadata": numbers}

    created = await client.post("/v1/sessions", json=body)

    assert created.status_code == 201
    session_id = created.json()["session_id"]
    await persistence.catch_up(session_id)
    events = (await client.get(f"/v1/sessions/{session_id}/events")).json()["events"]
    assert events[0]["data"]["metadata"] == numbers


async def test_a_body_with_many_faults_gets_a_short_answer(rejecting: httpx.AsyncClient) -> None:
    body = {"flow_id": "booking", "user_id": "ada", **{f"a{number}": 0 for number in range(5000)}}

    response = await rejecting.post("/v1/sessions", json=body)

    assert response.status_code == 422
    assert len(response.json()["errors"]) == 100
    assert len(response.content) < 20_000
