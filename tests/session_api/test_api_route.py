"""Bodies are parsed as strict JSON; invalid ones are rejected with a problem document."""

import httpx
import pytest

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
