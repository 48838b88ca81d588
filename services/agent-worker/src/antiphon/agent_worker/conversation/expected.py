"""Run the conversations that a flow expects, and compare them with what happens."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from antiphon.agent_worker.conversation.canned import (
    ANY_OBJECT,
    Answers,
    CannedLLM,
    substitutes,
    without_servers,
)
from antiphon.agent_worker.conversation.differences import Difference, differences
from antiphon.agent_worker.conversation.flow_file import FlowFile, catalog
from antiphon.agent_worker.conversation.happenings import Happening
from antiphon.agent_worker.conversation.text import TextConversation
from antiphon.agent_worker.conversation.trial import real_models
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.expect import Conversation, Step
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.flow.variables import MissingVariable
from antiphon.agent_worker.providers.table import LlmFactory

DEFAULT_TIME = "2026-01-01T12:00"  # of a conversation without `at`, in the time zone of the flow
CANNED_SECONDS, LIVE_SECONDS = 30.0, 120.0  # for one answer


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step expects, what happened, and the differences; `line` is that of the step."""

    line: int
    place: str
    step: Step
    happened: tuple[Happening, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a conversation went. `not_run` is the reason if it cannot be held in text."""

    name: str
    line: int
    seconds: float
    steps: tuple[StepOutcome, ...] = ()
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not any(step.differences for step in self.steps)


async def run_expected(
    file: FlowFile, *, live: bool = False, wanted: Callable[[str], bool] = lambda _: True
) -> AsyncIterator[Outcome]:
    """Hold the conversations that a flow expects, those that are `wanted` by name, and yield how they went.

    With `live` the real models answer, and what they say is not compared.
    """
    for number, conversation in enumerate(file.flow.expect):
        if wanted(conversation.name):
            yield await _run(file, number, conversation, live=live)


async def _run(file: FlowFile, number: int, conversation: Conversation, *, live: bool) -> Outcome:
    began, line = time.monotonic(), file.line_of(("expect", number))
    if any(file.flow.voice_of(agent).realtime is not None for agent in file.flow.agents):
        reason = "a realtime model hears and speaks itself: try it by voice"
        return Outcome(conversation.name, line, 0.0, not_run=reason)
    try:
        bound = _bound(file.flow, conversation, live=live)
    except (MissingVariable, ToolProblem, ValueError) as error:
        fault = Difference("", "a conversation", str(error), line)
        steps = [StepOutcome(line, f"expect[{number}]", conversation.steps[0], (), (fault,))]
    else:
        steps = [step async for step in _steps(file, number, conversation, bound, live=live)]
    return Outcome(conversation.name, line, time.monotonic() - began, tuple(steps))


async def _steps(
    file: FlowFile, number: int, conversation: Conversation, bound: BoundFlow, *, live: bool
) -> AsyncIterator[StepOutcome]:
    answers = Answers()
    async with TextConversation(
        bound,
        real_models(bound.flow) if live else canned_models(bound.flow, answers),
        substitutes=substitutes(file.flow, conversation.tools),
        timeout_seconds=LIVE_SECONDS if live else CANNED_SECONDS,
    ) as call:
        greeted = await call.greet()
        for index, step in enumerate(conversation.steps):
            path = ("expect", number, "steps", index)
            found: list[Difference] = []
            happened: list[Happening] = []
            if call.has_ended:
                found.append(Difference("", "a call that goes on", "the call has ended before this step"))
            else:
                answers.load(() if live else step.model)
                happened = greeted if index == 0 and is_greeting(step) else await _take(call, step)
                found += differences(step, happened, file.flow, texts=not live)
                found += _of_the_model(answers)
            place = file.document.problem(path, "").place
            placed = tuple(replace(one, line=file.line_of((*path, one.key))) for one in found)
            yield StepOutcome(file.line_of(path), place, step, tuple(happened), placed)
            if call.has_ended and found:
                return


def is_greeting(step: Step) -> bool:
    """Return whether the caller does nothing in a step: the greeting, or later a silence."""
    return step.caller is None and step.keys is None


async def _take(call: TextConversation, step: Step) -> list[Happening]:
    if step.caller is not None:
        return await call.hear(step.caller)
    if step.keys is not None:
        return await call.press(step.keys)
    return await call.stay_silent()


def _of_the_model(answers: Answers) -> list[Difference]:
    found = [
        Difference("model", "an answer for each question to the model", problem)
        for problem in answers.problems
    ]
    if answers.left:
        left = len(answers.left)
        found.append(
            Difference("model", "the model is asked for each answer", f"{left} of them not asked for")
        )
    return found


def canned_models(flow: Flow, answers: Answers) -> LlmFactory:
    """Return the models of a test: those of scripts as they are, and given answers in place of all others."""

    def build(bound: BoundFlow, agent: str) -> Any:
        model = flow.voice_of(agent).llm
        return ScriptedLLM(bound, agent) if model and model.use == "offline" else CannedLLM(answers, agent)

    return build


def _bound(flow: Flow, conversation: Conversation, *, live: bool) -> BoundFlow:
    """Bind a flow to a conversation. Raises MissingVariable, ToolProblem and ValueError."""
    known = catalog(needs_secrets=live)
    given: Any = {"metadata": conversation.metadata, "variables": conversation.variables}
    zone = ZoneInfo(bind(flow, known, **given).text(flow.time_zone))
    at = datetime.fromisoformat(conversation.at or DEFAULT_TIME)
    at = at if at.tzinfo is not None else at.replace(tzinfo=zone)
    bound = bind(flow, known, **given, now=lambda: at)
    if live:
        return bound
    replaced = without_servers(flow, conversation.tools)
    stand_ins = {name: bound.parameters.get(name) or ANY_OBJECT for name in replaced.tools}
    return replace(bound, flow=replaced, parameters=stand_ins)
