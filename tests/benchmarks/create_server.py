"""Servers of the create benchmark: `bare` and `two`, routes with one and two publishes, and session-api."""

import asyncio
import os
import sys
from itertools import count

from fastapi import FastAPI

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.deployment import deployment_of
from antiphon.chassis.http.server import serve_http
from antiphon.chassis.process import run
from antiphon.chassis.settings import load
from antiphon.chassis.telemetry import configure
from antiphon.contracts.ids import new_session_id
from antiphon.contracts.subjects import event_subject
from antiphon.session_api.app import create_app
from antiphon.session_api.dependencies import now, wire
from antiphon.session_api.sessions.schemas import CreateRequest
from antiphon.session_api.settings import ApiSettings

from .switched_traces import SwitchedTraces

PUBLISHES = {"bare": 1, "two": 2}


class NoRooms:
    """A room service that does nothing."""

    async def create_room(
        self, session_id: str, tenant: str, agent_name: str, *, ttl_seconds: int | None = None
    ) -> str:
        """Return a sid."""
        return "RM_none"

    async def room_sid(self, room: str) -> str | None:
        return None

    async def delete_room(self, room: str) -> None:
        """Do nothing."""


def bare_app(bus: Bus, publishes: int) -> FastAPI:
    """Build the baseline: validate, publish messages of the same kind and size one after another, answer."""
    app = FastAPI()
    numbers = count()

    @app.post("/v1/sessions", status_code=201)
    async def create(body: CreateRequest) -> dict[str, str]:
        session_id = new_session_id(now(), os.urandom(10))
        payload = b'{"user_id":"%s","filler":"%s"}' % (body.user_id.encode(), b"x" * 450)
        subject = event_subject("default", session_id, "session")
        for _ in range(publishes):
            await bus.publish(Outgoing(subject, payload, f"bare:{os.getpid()}:{next(numbers)}"))
        return {"session_id": session_id, "status": "requested"}

    return app


async def serve(kind: str, settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve `bare`, `two` or `ours` until stopped."""
    configure("benchmark", settings)
    SwitchedTraces().obey_signals()
    bus = await Bus.connect(settings.nats_url, name=kind)
    if kind in PUBLISHES:
        await serve_http(bare_app(bus, PUBLISHES[kind]), settings.host, settings.port, stop)
    else:
        keys = await (await bus.bucket("keys")).watch()
        flows = await (await bus.bucket("flows")).watch()
        database = await Database.connect(settings.postgres_dsn, min_size=0)
        dependencies = wire(
            settings,
            bus=bus,
            database=database,
            rooms=NoRooms(),
            keys=keys,
            flows=flows,
            deployment=await deployment_of(bus),
            stopping=stop,
        )
        await serve_http(create_app(dependencies), settings.host, settings.port, stop)
    await bus.close()


if __name__ == "__main__":
    run(lambda stop: serve(sys.argv[1], load(ApiSettings), stop))
