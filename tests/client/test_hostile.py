"""Servers that never finish, arguments that cannot be sent, clients that are closed: one clear error."""

import asyncio
import socket
import time
from typing import Any

import httpx
import pytest
from tests.client.events import SESSION
from tests.client.raw_server import raw_server

from antiphon.client import (
    AntiphonError,
    ClientClosed,
    InvalidArgument,
    Timeout,
    TlsFailed,
    async_client,
    sync_client,
)
from antiphon.client.async_client import AsyncAntiphon
from antiphon.client.sync_client import Antiphon

SOON = 8.0  # far below what the server takes
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
UNSENDABLE = [
    {"idempotency_key": "späß"},
    {"idempotency_key": "a b"},
    {"idempotency_key": "a\nb"},
    {"idempotency_key": "x" * 256},
    {"metadata": {"a": object()}},
    {"language": "\ud800"},
]


def trickled_head(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    for number in range(150):
        connection.sendall(f"X-{number}: 1\r\n".encode())
        time.sleep(0.1)


def trickled_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n")
    for _ in range(15):
        connection.sendall(b" ")
        time.sleep(0.9)


def call(kind: str, url: str, name: str, *arguments: Any, **named: Any) -> Any:
    """Call a method of `client.sessions` of either client; iterate if it gives an iterator."""
    options = {"transport": named.pop("transport", None)}
    if kind == "sync":
        with Antiphon(url, "a-key", **options) as client:
            return called(client, name, *arguments, **named)

    async def calling() -> Any:
        async with AsyncAntiphon(url, "a-key", **options) as client:
            return await awaited(client, name, *arguments, **named)

    return asyncio.run(calling())


def called(client: Antiphon, name: str, *arguments: Any, **named: Any) -> Any:
    result = getattr(client.sessions, name)(*arguments, **named)
    return list(result) if hasattr(result, "__next__") else result


async def awaited(client: AsyncAntiphon, name: str, *arguments: Any, **named: Any) -> Any:
    result = getattr(client.sessions, name)(*arguments, **named)
    return [one async for one in result] if hasattr(result, "__anext__") else await result


@KINDS
@pytest.mark.parametrize("answer", [trickled_head, trickled_body])
def test_a_time_limit_holds_for_an_answer_that_trickles(kind: str, answer: Any) -> None:
    with raw_server(answer) as server:
        started = time.monotonic()
        with pytest.raises(Timeout):
            call(kind, server.url, "get", SESSION, timeout=1.0)

    assert time.monotonic() - started < SOON


@KINDS
def test_a_stream_whose_head_trickles_is_a_failure(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sync_client, async_client):
        monkeypatch.setattr(module, "WATCHDOG_SECONDS", 0.3)
    with raw_server(trickled_head) as server:
        started = time.monotonic()
        with pytest.raises(Timeout):
            call(kind, server.url, "stream", SESSION, give_up_seconds=0.1)

    assert time.monotonic() - started < SOON


@KINDS
@pytest.mark.parametrize("name", ["get", "stream"])
def test_https_where_there_is_no_tls_is_said_at_once(kind: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        async def serve() -> list[int]:
            seen: list[int] = []

            async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                seen.append(len(await reader.read(100)))
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(one, sock=listening):
                with pytest.raises(TlsFailed, match="Does it have TLS"):
                    await asyncio.to_thread(call, kind, f"https://127.0.0.1:{port}", name, SESSION)
            return seen

        assert len(asyncio.run(serve())) == 1


@KINDS
@pytest.mark.parametrize("wrong", UNSENDABLE, ids=range(len(UNSENDABLE)))
def test_what_cannot_be_sent_is_said_before(kind: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        call(kind, "http://127.0.0.1:9", "create", **{"user_id": "ada", "flow_id": "f", **wrong})
    assert isinstance(refused.value, ValueError)


@KINDS
@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("get", ("\ud800",), {}),
        ("get", ("..",), {}),
        ("stream", ("\ud800",), {}),
        ("stream", (SESSION,), {"after": -1}),
        ("list", (), {"user_id": "a\ud800"}),
        ("list", (), {"limit": -1}),
    ],
)
def test_a_wrong_argument_is_an_error_of_the_client(
    kind: str, name: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        call(kind, "http://127.0.0.1:9", name, *arguments, **named)


@KINDS
def test_a_request_that_is_no_http_is_not_repeated(kind: str) -> None:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.LocalProtocolError("Illegal header value")

    transport = httpx.MockTransport(handle)
    with pytest.raises(InvalidArgument):
        call(kind, "http://api.test", "get", SESSION, transport=transport)
    assert len(requests) == 1


@pytest.mark.parametrize("name", ["get", "stream", "list"])
async def test_a_closed_client_says_so(name: str) -> None:
    arguments = () if name == "list" else (SESSION,)
    blocking, client = Antiphon("http://api.test", "a-key"), AsyncAntiphon("http://api.test", "a-key")
    blocking.close()
    await client.aclose()

    with pytest.raises(ClientClosed, match="make another one") as closed:
        called(blocking, name, *arguments)
    assert isinstance(closed.value, AntiphonError)
    with pytest.raises(ClientClosed):
        await awaited(client, name, *arguments)
