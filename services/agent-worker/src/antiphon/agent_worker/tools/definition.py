"""Whether a tool, as a flow defines it, can work in this process; checked when a flow is loaded."""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.definitions import McpServer, ToolDefinition
from antiphon.agent_worker.flow.url import InvalidUrl, UrlTemplate, check_base
from antiphon.agent_worker.tools.address import private_host
from antiphon.agent_worker.tools.arguments import schema_problem
from antiphon.agent_worker.tools.secrets import Secrets

MCP_COMMANDS = "ANTIPHON_AGENT_MCP_COMMANDS"  # whether flows may have the worker start programs
_NO = frozenset({"0", "false", "f", "no", "n", "off"})  # as pydantic reads the setting
_YES = frozenset({"1", "true", "t", "yes", "y", "on"})


def check_definition(definition: ToolDefinition, *, over_http: bool = False) -> None:
    """Check the addresses, schemas and commands of a tool. Raises ToolProblem.

    A flow that came `over_http` may have commands only if the setting is true.
    """
    for name, schema in definition.arguments.items():
        if problem := schema_problem(schema):
            raise ToolProblem(f"the argument {name!r} is {problem}")
    if definition.http is not None:
        _check_url(definition.http.url, private=definition.http.private)
    if definition.mcp is not None:
        _check_server(definition.mcp, over_http=over_http)


def program_path() -> str:
    """Return where the commands of MCP servers are looked for: first beside the worker's own Python."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def _check_server(server: McpServer, *, over_http: bool) -> None:
    if server.url is not None:
        _check_url(server.url, private=server.private)
        return
    setting = os.environ.get(MCP_COMMANDS, "").strip().lower()
    if setting in _NO:
        raise ToolProblem(f"commands are switched off here ({MCP_COMMANDS}); use the `url` of a server")
    if over_http and setting not in _YES:
        raise ToolProblem(
            f"a flow that is published over HTTP has no commands, unless {MCP_COMMANDS}=true for the agent "
            "worker; use the `url` of a server, or publish the file beside the worker"
        )
    program = server.command[0] if server.command is not None else ""
    if "{" not in program and not shutil.which(program, path=program_path()):
        raise ToolProblem(f"the command {program!r} was not found; install it, or write its path")


def _check_url(url: str, *, private: bool) -> None:
    """Check what an address is known of before it is resolved."""
    try:
        template = UrlTemplate(url)
        host = template.host
        if template.secret_base is not None:
            base = Secrets(os.environ).get(template.secret_base, "")
            if not base:
                return  # the check of secrets says that it is not set
            check_base(base.rstrip("/"), may_have_path=True)
            host = urlsplit(base).hostname
    except InvalidUrl as error:
        raise ToolProblem(f"the url {error}") from error
    if host is not None and not private and private_host(host):
        shown = host if template.secret_base is None else f"in {{{template.secret_base}}}"
        raise ToolProblem(f"the address {shown} is private; write `private: true` to allow it")
