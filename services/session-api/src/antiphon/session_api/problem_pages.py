"""Pages that explain each problem type: `GET /problems` and `GET /problems/{name}`, without an API key."""

from html import escape

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from antiphon.session_api.problem_types import PROBLEMS, ProblemType
from antiphon.session_api.problems import Problem

CACHE = {"Cache-Control": "public, max-age=3600", "Vary": "Accept"}

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}</style>
<h1>{title}</h1>
{body}
</html>
"""


class ProblemPage(msgspec.Struct, frozen=True):
    """The explanation of a problem type."""

    type: str
    name: str
    title: str
    statuses: tuple[int, ...]
    happened: str
    advice: str


class ProblemList(msgspec.Struct, frozen=True):
    """All problem types."""

    problems: list[ProblemPage]
    next: None = None


def routes() -> list[BaseRoute]:
    """Return the routes of the pages."""
    return [
        Route("/problems", _all, name="list_problems"),
        Route("/problems/{name}", _one, name="get_problem"),
    ]


async def _all(request: Request) -> Response:
    if _wants_html(request):
        return _html("Problems", "<ul>" + "".join(map(_link, PROBLEMS.values())) + "</ul>")
    return _json(ProblemList([as_page(problem) for problem in PROBLEMS.values()]))


async def _one(request: Request) -> Response:
    problem = PROBLEMS.get(request.path_params["name"])
    if problem is None:
        raise Problem(404, "unknown-problem", "There is no such problem type; GET /problems lists all.")
    if not _wants_html(request):
        return _json(as_page(problem))
    statuses = ", ".join(map(str, problem.statuses))
    return _html(
        problem.title,
        f"<p><code>{problem.uri}</code>, status {statuses}</p>"
        f"<h2>What happened</h2><p>{escape(problem.happened)}</p>"
        f"<h2>What to do</h2><p>{escape(problem.advice)}</p>"
        '<p><a href="/problems">All problems</a></p>',
    )


def as_page(problem: ProblemType) -> ProblemPage:
    """Return the explanation of a problem type."""
    return ProblemPage(
        problem.uri, problem.name, problem.title, problem.statuses, problem.happened, problem.advice
    )


def _link(problem: ProblemType) -> str:
    return (
        f'<li><a href="/problems/{problem.name}">{escape(problem.title)}</a>: {escape(problem.happened)}</li>'
    )


def _wants_html(request: Request) -> bool:
    """Return whether HTML comes before JSON in `Accept`, as it does for a browser."""
    accepted = request.headers.get("accept", "").lower()
    html, json = accepted.find("text/html"), accepted.find("json")
    return html >= 0 and (json < 0 or html < json)


def _html(title: str, body: str) -> Response:
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), headers=CACHE)


def _json(content: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(content), headers=CACHE, media_type="application/json")
