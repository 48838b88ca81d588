"""Check the tools of a flow: each can be loaded, its secrets are set, and agents name those there are."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.flow.check.catalog import Catalog, Fault, ToolProblem
from antiphon.agent_worker.flow.check.texts import check_text
from antiphon.agent_worker.flow.definitions import HttpRequest, McpServer, ToolDefinition
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.names import Path
from antiphon.agent_worker.flow.suggest import unknown
from antiphon.agent_worker.flow.template import InvalidTemplate, placeholders
from antiphon.agent_worker.flow.url import SECRET
from antiphon.agent_worker.flow.variables import CLOCK

RESERVED = (END_CALL, hand_off_tool(""), transfer_tool(""))

_SECRET_NAME = re.compile(r"secret\.[A-Z][A-Z0-9_]*")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110
_OWN_HEADERS = (
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)


def check_tools(flow: Flow, catalog: Catalog) -> Iterator[Fault]:
    """Yield what is wrong with the tools."""
    for name, definition in flow.tools.items():
        path: Path = ("tools", name)
        if name.startswith(RESERVED):
            yield path, f"{name!r} is the name of a tool that every flow has"
        yield from (((*path, *place), reason) for place, reason in _shape(definition))
        try:
            parameters = catalog.parameters(definition)
        except ToolProblem as problem:
            yield (*path, definition.kind), str(problem)
            continue
        yield from _texts(path, definition, parameters or {}, flow, catalog)
    yield from _names_of_servers(flow)
    for name, agent in flow.agents.items():
        for index, tool in enumerate(agent.tools or []):
            if tool not in flow.tools:
                yield ("agents", name, "tools", index), unknown("tool", tool, flow.tools)


def _shape(definition: ToolDefinition) -> Iterator[Fault]:
    """Yield what no installation accepts: names of arguments and headers, and times."""
    for argument in definition.arguments:
        if not _ARGUMENT.fullmatch(argument):
            yield ("arguments", argument), "the name of an argument has letters, digits and _"
    if definition.http is None:
        if definition.arguments:
            yield (
                ("arguments",),
                f"the {definition.kind} tool itself says what its arguments are; remove them",
            )
    else:
        yield from _headers("http", definition.http.headers)
        yield from _body(definition.http)
    if definition.mcp is not None:
        yield from _server(definition.mcp)
    filler = definition.filler
    if filler is not None and filler.after_seconds >= definition.timeout_seconds:
        reason = f"is never said: the tool ends after {definition.timeout_seconds:g} s (`timeout_seconds`)"
        yield ("filler", "after_seconds"), reason


def _headers(kind: str, headers: Mapping[str, str]) -> Iterator[Fault]:
    seen = set()
    for name in headers:
        place = (kind, "headers", name)
        if not _HEADER.fullmatch(name):
            yield place, "is not the name of a header: letters, digits and - like X-Api-Key"
        elif name.lower() in _OWN_HEADERS:
            yield place, "is a header that the client writes itself; remove it"
        elif name.lower() in seen:
            yield place, "is written twice"
        seen.add(name.lower())


def _server(server: McpServer) -> Iterator[Fault]:
    yield from _headers("mcp", server.headers)
    if server.command is not None and server.headers:
        yield ("mcp", "headers"), "a command has no headers; give it `env`"
    if server.url is not None and server.env:
        yield ("mcp", "env"), "only a command has an environment; write `headers` for a url"


def _body(request: HttpRequest) -> Iterator[Fault]:
    if request.body is not None and request.method in ("GET", "DELETE"):
        yield ("http", "body"), f"a {request.method} request has no body; write the values into the url"


def _names_of_servers(flow: Flow) -> Iterator[Fault]:
    """Yield the tools of MCP servers whose names are known here, and taken."""
    owners = {name: "a tool of the flow" for name, tool in flow.tools.items() if tool.mcp is None}
    for server, definition in flow.tools.items():
        for index, tool in enumerate((definition.mcp and definition.mcp.tools) or ()):
            place: Path = ("tools", server, "mcp", "tools", index)
            if tool.startswith(RESERVED):
                yield place, f"{tool!r} is the name of a tool that every flow has"
            elif tool in owners:
                yield place, f"{tool!r} is also {owners[tool]}; a model could not tell them apart"
            owners.setdefault(tool, f"a tool of the server {server}")
    for name, agent in flow.agents.items():
        for index, rule in enumerate(agent.script.rules):
            yield from _not_a_server(flow, ("agents", name, "script", "rules", index, "call"), rule.call)
    for index, rule in enumerate(flow.script.rules):
        yield from _not_a_server(flow, ("script", "rules", index, "call"), rule.call)


def _not_a_server(flow: Flow, path: Path, tool: str | None) -> Iterator[Fault]:
    if tool in flow.tools and flow.tools[tool].mcp is not None:
        yield path, f"{tool!r} is an MCP server; only a model can call its tools"


def _texts(
    path: Path, definition: ToolDefinition, parameters: Mapping[str, Any], flow: Flow, catalog: Catalog
) -> Iterator[Fault]:
    known = {*flow.variables, *CLOCK, *parameters.get("properties", {})}
    for place, text in _templates(definition):
        try:
            secrets = [used for used in placeholders(text) if used.startswith(SECRET)]
        except InvalidTemplate as error:
            yield (*path, *place), str(error)
            continue
        if secrets and place[0] == "filler":
            yield (*path, *place), "the caller would hear a secret"
        for secret in secrets:
            name = secret.removeprefix(SECRET)
            if not _SECRET_NAME.fullmatch(secret):
                yield (*path, *place), f"the name of a secret has capitals, digits and _, not {name!r}"
            elif not catalog.has_secret(name):
                reason = f"the secret {name!r} is not set: set ANTIPHON_SECRET_{name} for the agent worker"
                yield (*path, *place), reason
        yield from check_text((*path, *place), text, known.union(secrets))


def _templates(definition: ToolDefinition) -> Iterator[tuple[Path, str]]:
    if definition.filler is not None:
        yield ("filler", "say"), definition.filler.say
    if (http := definition.http) is not None:
        yield ("http", "url"), http.url
        yield from ((("http", "headers", name), text) for name, text in http.headers.items())
        yield from _texts_in(("http", "body"), http.body)
    if (mcp := definition.mcp) is not None:
        if mcp.url is not None:
            yield ("mcp", "url"), mcp.url
        yield from ((("mcp", "command", index), text) for index, text in enumerate(mcp.command or ()))
        yield from ((("mcp", "headers", name), text) for name, text in mcp.headers.items())
        yield from ((("mcp", "env", name), text) for name, text in mcp.env.items())


def _texts_in(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts_in((*path, str(name)), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts_in((*path, index), inner)
