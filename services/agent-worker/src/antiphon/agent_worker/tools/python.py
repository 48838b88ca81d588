"""Tools that are Python functions with LiveKit's `@function_tool`, named by `module:function`."""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from livekit.agents import RunContext
from livekit.agents.llm import FunctionTool, RawFunctionTool
from livekit.agents.llm.utils import function_arguments_to_pydantic_model, prepare_function_arguments

from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.suggest import did_you_mean
from antiphon.agent_worker.tools.arguments import Arguments
from antiphon.agent_worker.tools.blocking import in_thread

TOOLS_PATH = "ANTIPHON_AGENT_TOOLS_PATH"  # the folders of a user's own modules

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

AnyFunctionTool: TypeAlias = "FunctionTool[Any, Any] | RawFunctionTool[Any, Any]"


@lru_cache(maxsize=256)
def load_function(reference: str) -> AnyFunctionTool:
    """Return the tool that `module:function` names. Raises ToolProblem."""
    if not _REFERENCE.fullmatch(reference):
        raise ToolProblem(f"{reference!r} is not module:function")
    module_name, _, name = reference.partition(":")
    module = _imported(module_name)
    try:
        tool = getattr(module, name, None)
    except Exception as error:  # a module may have a function that looks names up
        raise ToolProblem(f"{module_name} does not give {name!r}: {error!r}") from error
    if tool is None:
        raise ToolProblem(f"{module_name} has no {name!r}{did_you_mean(name, vars(module))}")
    if not isinstance(tool, FunctionTool | RawFunctionTool):
        raise ToolProblem(f"{reference} is not a tool: decorate it with @function_tool of livekit.agents")
    return tool


def parameters_of(tool: AnyFunctionTool) -> Mapping[str, Any]:
    """Return the JSON Schema of a tool's arguments. Raises ToolProblem."""
    if isinstance(tool, RawFunctionTool):
        schema: Mapping[str, Any] = tool.info.raw_schema.get("parameters", {})
        return schema
    try:
        return function_arguments_to_pydantic_model(tool).model_json_schema()
    except Exception as error:  # pydantic raises many kinds
        raise ToolProblem(f"the arguments of {tool.info.name} have no JSON Schema: {error}") from error


def description_of(tool: AnyFunctionTool) -> str | None:
    """Return what the model reads of a tool."""
    if isinstance(tool, RawFunctionTool):
        return str(tool.info.raw_schema.get("description") or "")
    return tool.info.description


class PythonTool:
    """A Python function that can be called; one without `async` runs in a thread."""

    def __init__(self, tool: AnyFunctionTool) -> None:
        self._tool = tool
        self._blocks = not inspect.iscoroutinefunction(inspect.unwrap(tool))
        self._arguments = Arguments(parameters_of(tool)) if isinstance(tool, RawFunctionTool) else None

    async def call(self, arguments: dict[str, Any], context: RunContext[Any]) -> Any:
        """Call the function. Raises what it raises, and ToolError for invalid arguments."""
        if self._arguments is not None:
            arguments = self._arguments.checked(arguments)
        positional, named = prepare_function_arguments(
            fnc=self._tool, json_arguments=arguments, call_ctx=context
        )
        if not self._blocks:
            return await self._tool(*positional, **named)
        result = await in_thread(lambda: self._tool(*positional, **named), name=self._tool.info.name)
        return await result if inspect.isawaitable(result) else result


def _imported(module: str) -> Any:
    folders = _add_folders()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ToolProblem(f"the module {module!r} cannot be imported: {error}") from error
        where = f"it is not in {TOOLS_PATH}={folders}" if folders else f"set {TOOLS_PATH} to its folder"
        raise ToolProblem(
            f"the module {module!r} cannot be imported: it was not found; {where}, or install its package"
        ) from error
    except (Exception, SystemExit) as error:  # any code may run at the import
        raise ToolProblem(f"the module {module!r} cannot be imported: {error!r}") from error


def _add_folders() -> str:
    """Let modules in the user's folders be imported, after all others; return the folders."""
    folders = os.environ.get(TOOLS_PATH, "").strip()
    for folder in filter(None, folders.split(os.pathsep)):
        if (path := str(Path(folder).absolute())) not in sys.path:
            sys.path.append(path)
            importlib.invalidate_caches()
    return folders
