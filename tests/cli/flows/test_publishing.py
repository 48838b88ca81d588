"""`antiphon flow publish` and `diff`, against a double of session-api's flow routes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from antiphon.cli.api import ApiFailed
from antiphon.cli.errors import StackError
from antiphon.cli.flows.comparing import print_difference
from antiphon.cli.flows.publishing import condition, publish_files
from antiphon.cli.flows.writing import write_flow

PROBLEM = "application/problem+json"


class FlowRoutes:
    """Keeps the revisions of flows, as session-api does; a source with BROKEN in it is refused."""

    def __init__(self) -> None:
        self.revisions: dict[str, list[str]] = {}
        self.requests: list[web.Request] = []
        self.refused: dict[str, tuple[int, dict[str, object]]] = {}

    async def put(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if (refused := self.refused.get(request.match_info["flow"])) is not None:
            return _refused(refused[0], "refused", **refused[1])
        source = await request.text()
        known = self.revisions.setdefault(request.match_info["flow"], [])
        newest = f'"{len(known)}"'
        if request.headers.get("If-Match", newest) != newest:
            detail = f"The newest revision is {len(known)}: send If-Match."
            return _refused(412, "flow-changed", detail=detail, newest_revision=len(known))
        if "BROKEN" in source:
            problems = [{"line": 3, "place": "agents.host", "reason": "is wrong"}]
            return _refused(422, "invalid-flow", problems=problems, more_problems=1)
        if not known or known[-1] != source:
            known.append(source)
        return web.json_response({"flow_id": request.match_info["flow"], "revision": len(known)})

    async def get(self, request: web.Request) -> web.Response:
        known = self.revisions.get(request.match_info["flow"], [])
        number = int(request.match_info["revision"])
        if number > len(known):
            return _refused(404, "unknown-flow", detail="There is no such revision.")
        return web.json_response({"revision": number, "source": known[number - 1]})


def _refused(status: int, kind: str, **members: object) -> web.Response:
    document = {"type": f"https://antiphon/problems/{kind}", "title": kind, "status": status, **members}
    return web.Response(text=json.dumps(document), status=status, content_type=PROBLEM)


@pytest.fixture
async def routes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowRoutes]:
    made = FlowRoutes()
    app = web.Application()
    app.router.add_put("/v1/flows/{flow}", made.put)
    app.router.add_get("/v1/flows/{flow}/revisions/{revision}", made.get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("ANTIPHON_API_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("ANTIPHON_API_KEY", "key")
    yield made
    await runner.cleanup()


async def test_a_file_becomes_a_revision(
    routes: FlowRoutes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_flow("shop", "minimal", tmp_path, force=False)
    capsys.readouterr()

    assert await publish_files([path], None)

    assert capsys.readouterr().out == "shop: revision 1\n"
    assert routes.revisions == {"shop": [path.read_text()]}
    (request,) = routes.requests
    assert request.headers["Content-Type"] == "application/yaml"
    assert request.headers["Authorization"] == "Bearer key"
    assert "If-Match" not in request.headers


async def test_a_lost_update_is_refused(
    routes: FlowRoutes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_flow("shop", "minimal", tmp_path, force=False)
    assert await publish_files([path], None)
    path.write_text(path.read_text().replace("nine to six", "nine to five"))

    assert await publish_files([path], 1)
    capsys.readouterr()
    assert not await publish_files([path], 1)
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"{path} was not published: revision 2 is the newest of shop: ")
    assert f"antiphon flow diff shop@2 {path}, then publish with --if-match 2" in error
    assert len(routes.revisions["shop"]) == 2


async def test_problems_are_those_of_check_and_keep_back_no_other_file(
    routes: FlowRoutes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, fine = (write_flow(name, "minimal", tmp_path, force=False) for name in ("broken", "fine"))
    broken.write_text(broken.read_text() + "# BROKEN\n")
    capsys.readouterr()

    assert not await publish_files([broken, fine], None)

    output, errors = capsys.readouterr()
    assert output == f"{broken}:3: agents.host: is wrong\nfine: revision 1\n"
    assert errors.splitlines() == [
        f"{broken} was not published: 2 problems",
        "1 of 2 files were published; not: broken",
    ]
    assert "fine" in routes.revisions


async def test_each_file_is_published_or_said_not_to_be(
    routes: FlowRoutes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("first", "changed", "unkept", "last")
    files = [write_flow(name, "minimal", tmp_path, force=False) for name in names]
    routes.refused = {
        "changed": (412, {"newest_revision": 7}),
        "unkept": (503, {"detail": "The bus is away."}),
    }
    capsys.readouterr()

    assert not await publish_files(files, None)

    output, errors = capsys.readouterr()
    assert output == "first: revision 1\nlast: revision 1\n"
    lines = errors.splitlines()
    assert lines[0].startswith(f"{files[1]} was not published: revision 7 is the newest of changed: ")
    assert lines[1].startswith(f"{files[2]} was not published: ")
    assert "The bus is away." in lines[1]
    assert lines[2] == "2 of 4 files were published; not: changed, unkept"
    assert set(routes.revisions) == {"first", "last"}


async def test_a_deployment_that_cannot_be_reached_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTIPHON_API_KEY", "key")
    files = [write_flow(name, "minimal", tmp_path, force=False) for name in ("first", "second")]
    capsys.readouterr()

    assert not await publish_files(files, None)

    refused, counted = capsys.readouterr().err.splitlines()
    assert refused.startswith(f"{files[0]} was not published: ")
    assert counted == "0 of 2 files were published; not: first, second"


async def test_nothing_is_sent_when_a_file_has_no_id(routes: FlowRoutes, tmp_path: Path) -> None:
    fine = write_flow("fine", "minimal", tmp_path, force=False)
    (tmp_path / "none.yaml").write_text("name: x\n")

    with pytest.raises(StackError, match=r"none\.yaml has no line `id: …`"):
        await publish_files([fine, tmp_path / "none.yaml"], None)
    assert routes.requests == []


def test_the_header_of_a_condition() -> None:
    assert condition(None) == {}
    assert condition(3) == {"If-Match": '"3"'}
    assert condition(0) == {"If-None-Match": "*"}


async def test_the_difference_of_a_revision_and_a_file(
    routes: FlowRoutes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_flow("shop", "minimal", tmp_path, force=False)
    await publish_files([path], None)
    rule = "    - {hear: open, say: First.}\n    - hear: open\n"
    changed = path.read_text().replace("    - hear: open\n", rule).replace("name: A first", "name: A second")
    path.write_text(changed.replace("  fallback: ", "  # a comment is no difference\n  fallback: "))
    capsys.readouterr()

    await print_difference("shop@1", str(path))

    output, errors = capsys.readouterr()
    assert output == (
        "~ name\n    - A first flow\n    + A second flow\n"
        '+ script.rules[0]\n    + {"hear": "open", "say": "First."}\n'
    )
    assert errors == "2 parts\n"
    await print_difference(str(path), str(path))
    assert capsys.readouterr().err == "no difference\n"


async def test_a_difference_needs_two_flows(routes: FlowRoutes, tmp_path: Path) -> None:
    path = write_flow("shop", "minimal", tmp_path, force=False)

    with pytest.raises(StackError, match=r"nothing is neither a file nor FLOW@REVISION, as booking@3"):
        await print_difference(str(path), "nothing")
    with pytest.raises(ApiFailed, match="There is no such revision"):
        await print_difference(str(path), "shop@1")
