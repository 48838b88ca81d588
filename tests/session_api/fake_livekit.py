"""LiveKit's room service as a small HTTP server, for failures that a real one cannot produce on demand."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from livekit import api as livekit_api
from livekit.protocol.models import Room

API_KEY = "devkey"
API_SECRET = "a-secret-of-at-least-32-characters!!"


@dataclass
class FakeLiveKit:
    """A room service; set `status` or `delay_seconds` to make it fail or stall."""

    url: str = ""
    rooms: dict[str, Any] = field(default_factory=dict)
    created: list[Any] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    status: int = 200
    delay_seconds: float = 0.0
    on_create: Callable[[], object] | None = None

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        await asyncio.sleep(self.delay_seconds)
        if self.status != 200:
            codes = {401: "unauthenticated", 503: "unavailable"}
            body = {"code": codes.get(self.status, "internal"), "msg": "set by the test"}
            return web.json_response(body, status=self.status)
        token = request.headers["authorization"].removeprefix("Bearer ")
        claims = livekit_api.TokenVerifier(API_KEY, API_SECRET).verify(token)
        assert claims.video is not None
        method = request.match_info["method"]
        if method == "ListRooms":
            assert claims.video.room_list
            return self._list(raw)
        assert claims.video.room_create
        return self._create(raw) if method == "CreateRoom" else self._delete(raw)

    def _list(self, raw: bytes) -> web.Response:
        names = livekit_api.ListRoomsRequest.FromString(raw).names
        rooms = [Room(name=name, sid=sid) for name, sid in self.rooms.items() if name in names]
        return _protobuf(livekit_api.ListRoomsResponse(rooms=rooms))

    def _create(self, raw: bytes) -> web.Response:
        requested = livekit_api.CreateRoomRequest.FromString(raw)
        self.created.append(requested)
        sid = self.rooms.setdefault(requested.name, f"RM_{len(self.rooms)}")
        if self.on_create is not None:
            self.on_create()
        return _protobuf(Room(name=requested.name, sid=sid))

    def _delete(self, raw: bytes) -> web.Response:
        name = livekit_api.DeleteRoomRequest.FromString(raw).room
        self.deleted.append(name)
        if self.rooms.pop(name, None) is None:
            return web.json_response({"code": "not_found", "msg": "no such room"}, status=404)
        return _protobuf(livekit_api.DeleteRoomResponse())


def _protobuf(message: Any) -> web.Response:
    return web.Response(body=message.SerializeToString(), content_type="application/protobuf")
