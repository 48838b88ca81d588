"""JSON bodies are read strictly, and what is wrong with them is said."""

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
async def test_what_is_not_json_is_malformed(body: bytes, rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", content=body, headers=JSON)

    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/malformed-json")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_another_media_type_is_not_supported(media_type: str, rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post(
        "/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}', headers={"Content-Type": media_type}
    )

    assert answer.status_code == 415
    assert answer.json()["type"].endswith("/unsupported-media-type")


async def test_no_media_type_at_all_is_not_supported(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}')

    assert answer.status_code == 415


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
async def test_json_by_any_of_its_names_is_read(media_type: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/sessions", content=b'{"flow_id":"booking","user_id":"ada"}', headers={"Content-Type": media_type}
    )

    assert answer.status_code == 201


async def test_no_body_names_what_is_missing(rejecting: httpx.AsyncClient) -> None:
    answer = await rejecting.post("/v1/sessions", headers=JSON)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body"
