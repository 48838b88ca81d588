"""A double of LiveKit's SIP service: Twirp over HTTP on loopback, as the published protocol has it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import jwt
from aiohttp import web
from livekit import api

SECRET = "a-secret-of-at-least-32-characters!!"
PATH = "/twirp/livekit.SIP/TransferSIPParticipant"


@dataclass
class SipDouble:
    """What it was asked for, and what it answers: a response, or the status and body of an error."""

    url: str = ""
    answer: api.TransferSIPParticipantResponse = field(default_factory=api.TransferSIPParticipantResponse)
    error: tuple[int, dict[str, object]] | None = None
    requests: list[api.TransferSIPParticipantRequest] = field(default_factory=list)
    grants: list[dict[str, object]] = field(default_factory=list)

    async def transfer(self, request: web.Request) -> web.Response:
        """Answer a request to transfer a participant."""
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.grants.append(jwt.decode(token, SECRET, algorithms=["HS256"]))
        self.requests.append(api.TransferSIPParticipantRequest.FromString(await request.read()))
        if self.error is not None:
            status, body = self.error
            return web.Response(status=status, text=json.dumps(body), content_type="application/json")
        return web.Response(body=self.answer.SerializeToString(), content_type="application/protobuf")


@asynccontextmanager
async def sip_double() -> AsyncIterator[tuple[SipDouble, api.LiveKitAPI]]:
    """Run a double; return it with LiveKit's own client of it."""
    double = SipDouble()
    app = web.Application()
    app.router.add_post(PATH, double.transfer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with api.LiveKitAPI(double.url, "devkey", SECRET) as client:
            yield double, client
    finally:
        await runner.cleanup()
