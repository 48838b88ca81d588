"""Flows: the newest revision is used, and tenants are isolated."""

import json
from collections.abc import Awaitable, Callable

import httpx

from antiphon.session_api.flows.known import Flows


def _bucket(*keys: str) -> dict[str, bytes]:
    bucket = {}
    for key in keys:
        _, flow_id, revision = key.split(".")
        record = {"flow_id": flow_id, "revision": int(revision), "sha256": "0" * 64, "source": "x"}
        bucket[key] = json.dumps(record).encode()
    return bucket


def test_newest_revision_is_used() -> None:
    flows = Flows(_bucket("default.booking.1", "default.booking.2", "default.booking.3"))

    assert flows.latest_revision("default", "booking") == 3


def test_later_revision_is_found() -> None:
    bucket = _bucket("default.booking.1")
    flows = Flows(bucket)
    flows.latest_revision("default", "booking")

    bucket.update(_bucket("default.booking.2"))

    assert flows.latest_revision("default", "booking") == 2


def test_emptied_bucket_has_no_flow() -> None:
    bucket = _bucket("default.booking.1")
    flows = Flows(bucket)
    flows.latest_revision("default", "booking")

    bucket.clear()

    assert flows.latest_revision("default", "booking") is None


def test_flow_of_another_tenant_is_unknown() -> None:
    flows = Flows(_bucket("acme.booking.1"))

    assert flows.latest_revision("default", "booking") is None
    assert flows.latest("default") == []


def test_malformed_record_is_left_out() -> None:
    flows = Flows({**_bucket("default.booking.1"), "default.broken.1": b"{"})

    assert [flow.flow_id for flow in flows.latest("default")] == ["booking"]


async def test_list_has_each_flow_once_without_its_source(
    client: httpx.AsyncClient, put_flow: Callable[..., Awaitable[str]], until: Callable[..., Awaitable[None]]
) -> None:
    await put_flow("concierge")
    await put_flow("secret", tenant="other")

    async def listed() -> bool:
        flows = (await client.get("/v1/flows")).json()["flows"]
        return [flow["flow_id"] for flow in flows] == ["booking", "concierge"]

    await until(listed)
    page = (await client.get("/v1/flows")).json()
    assert page["next"] is None
    assert page["flows"][0]["revision"] == 2
    assert "source" not in page["flows"][0]
