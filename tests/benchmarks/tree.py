"""Agents: the memory of one agent in a tree of five, ours against plain agents with the same tools."""

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from livekit.agents import Agent, function_tool

from antiphon.agent_worker.agents import next_agent
from antiphon.agent_worker.call import Call, only_llm
from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import bind
from antiphon.agent_worker.flow.scripted import ScriptedLLM

from .report import Report, Result, Servers

NAMES = ("host", "sales", "support", "expert", "manager")
TREES = 50
TARGET_KIBIBYTES = 200.0
HEAD = """\
id: tree
name: Tree
description: Five agents.
script:
  fallback: I did not catch that.
  slots: {product: [boat, car, house]}
  phrases:
"""


async def run(_servers: Servers, report: Report) -> None:
    """Measure the memory that agents keep."""
    report.step(f"build {TREES} trees of {len(NAMES)} agents", seconds=60)
    call = Call(bind(load_flow(_flow(), CATALOG), CATALOG), only_llm(ScriptedLLM))
    build = next_agent(call)
    context = Agent(instructions="").chat_ctx.copy()
    ours = _kibibytes(lambda: [build(name, context, context) for name in NAMES])
    plain = _kibibytes(lambda: [_plain() for _ in NAMES])
    report.row(
        Result(
            name="memory of an agent in a tree of five",
            value=ours,
            unit="KiB",
            baseline_name="a plain agent with as many tools",
            baseline=plain,
            target=TARGET_KIBIBYTES,
        )
    )


def _kibibytes(build: Callable[[], Sequence[Any]]) -> float:
    """Return what each agent keeps, without what the first tree shares with the others."""
    kept = [build()]
    gc.collect()
    tracemalloc.start()
    kept += [build() for _ in range(TREES)]
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1024 / (TREES * len(kept[0]))


def _plain() -> Agent:
    async def run(raw_arguments: dict[str, object]) -> None:
        """Do nothing."""

    schema = {"description": "Do nothing.", "parameters": {"type": "object", "properties": {}}}
    tools = [function_tool(run, raw_schema={**schema, "name": f"tool_{number}"}) for number in range(5)]
    return Agent(instructions="Help.", tools=list(tools))


def _flow() -> str:
    phrases = "".join(f'    {name}: "i want the {name} of the {{product}}"\n' for name in NAMES)
    rules = "".join(f"    - {{hear: {name}, say: One moment., hand_off: {name}}}\n" for name in NAMES)
    agents = "".join(f"  {name}: {{instructions: Help., greeting: Hello.}}\n" for name in NAMES)
    return f"{HEAD}{phrases}  rules:\n{rules}agents:\n{agents}"
