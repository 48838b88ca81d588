"""Python tools of flows: what a function may do, and what of it the model and the record get."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent_worker.tools import functions
from tests.agent_worker.tools.conftest import Open

from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.definitions import MAX_RESULT_BYTES
from antiphon.agent_worker.tools.blocking import THREADS
from antiphon.agent_worker.tools.python import TOOLS_PATH, load_function
from antiphon.agent_worker.tools.run import RUNNING

KEY = "s3cr3t-k3y-of-the-test"


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANTIPHON_SECRET_KEY", KEY)
    functions.release.clear()
    yield
    functions.release.set()


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {name: {"python": f"tests.agent_worker.tools.functions:{name}", **more}}


def test_module_that_refuses_a_name_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def __getattr__(name):\n    raise ImportError(name + ' was moved')\n"
    (tmp_path / "tools_that_moved.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ToolProblem, match=r"tools_that_moved does not give 'order': ImportError.*was moved"):
        load_function("tools_that_moved:order")


async def test_call_is_on_record_with_arguments_result_and_duration(talk: Open) -> None:
    async with talk(tool("order")) as spoken:
        output = await spoken.call("order", number=7)
        assert json.loads(output.output) == {"number": 7, "state": "sent"}
        (started,), (completed,) = spoken.started, spoken.completed
        assert (started.name, json.loads(started.arguments)) == ("order", {"number": 7})
        assert (completed.status, completed.output) == ("done", output.output)
        assert completed.call_id == started.call_id
        assert completed.duration_seconds is not None
        assert completed.personal is None


async def test_result_of_a_personal_tool_is_marked(talk: Open) -> None:
    async with talk(tool("order", personal=True) | tool("crash", personal=True)) as spoken:
        await spoken.call("order", number=7)
        await spoken.call("crash")
        assert [completed.personal for completed in spoken.completed] == [True, True]


async def test_function_that_blocks_runs_in_a_thread(talk: Open) -> None:
    async with talk(tool("blocking")) as spoken:
        output = await spoken.call("blocking", number=7)
        assert json.loads(output.output) == {"number": 7, "thread": True}


@pytest.mark.parametrize("name", ["slow", "stuck", "stubborn"])
async def test_call_goes_on_at_the_time_limit(talk: Open, name: str) -> None:
    async with talk(tool(name, timeout_seconds=0.3) | tool("order")) as spoken:
        output = await spoken.call(name, **({"seconds": 60} if name == "slow" else {}))
        assert output.is_error
        assert output.output == f"{name} did not answer within 0.3 s"
        assert spoken.completed[0].status == "error"
        assert spoken.completed[0].output == output.output
        functions.release.set()
        assert not (await spoken.call("order", number=1)).is_error


async def test_functions_that_never_return_are_bounded(talk: Open) -> None:
    async with talk(tool("stuck", timeout_seconds=0.1) | tool("blocking")) as spoken:
        for _ in range(THREADS):
            await spoken.call("stuck")
        output = await spoken.call("blocking", number=1)
        assert (output.is_error, output.output) == (True, "too many tools are busy; try again in a moment")
        functions.release.set()
        async with asyncio.timeout(60):
            while (await spoken.call("blocking", number=1)).is_error:  # noqa: ASYNC110 - nor has a thread
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("crash", "crash failed: KeyError"),
        ("refuse", "the table *** is taken"),
        ("leave", "leave failed: SystemExit"),
        ("leave_blocking", "leave_blocking failed: SystemExit"),
        ("stop_iterating", "stop_iterating failed: RuntimeError"),
        ("cancel_itself", "cancel_itself failed: ToolCrashed"),
        ("interrupt", "interrupt failed: KeyboardInterrupt"),
        ("interrupt_blocking", "interrupt_blocking failed: KeyboardInterrupt"),
        ("end_generator", "end_generator failed: GeneratorExit"),
        ("recurse", "recurse failed: RecursionError"),
        ("recurse_blocking", "recurse_blocking failed: RecursionError"),
        ("fail_together", "fail_together failed: BaseExceptionGroup"),
        ("cancel_blocking", "cancel_blocking failed: ToolCrashed"),
        ("time_out", "time_out failed: TimeoutError"),
        ("raise_unprintable", "raise_unprintable failed: Unprintable"),
        ("unserialisable", "the tool returned something that is not JSON"),
        ("an_agent", "a tool of a flow cannot return an agent: write hand_offs in the flow"),
    ],
)
async def test_error_is_a_short_text_without_secrets(
    talk: Open, logged: Callable[[], str], name: str, told: str
) -> None:
    async with talk(tool(name) | tool("order"), environment={"ANTIPHON_SECRET_KEY": KEY}) as spoken:
        output = await spoken.call(name)
        assert (output.is_error, output.output) == (True, told)
        assert (spoken.completed[0].status, spoken.completed[0].output) == ("error", told)
        assert not (await spoken.call("order", number=1)).is_error  # the call of the caller goes on
        assert KEY not in logged()


async def test_crash_is_logged_with_its_place(talk: Open, logged: Callable[[], str]) -> None:
    async with talk(tool("crash"), environment={"ANTIPHON_SECRET_KEY": KEY}) as spoken:
        await spoken.call("crash")
        assert "tool.crashed" in logged()
        assert "functions.py" in logged()


async def test_result_larger_than_the_limit_is_an_error(talk: Open) -> None:
    async with talk(tool("huge")) as spoken:
        assert not (await spoken.call("huge", size=MAX_RESULT_BYTES)).is_error
        output = await spoken.call("huge", size=MAX_RESULT_BYTES + 1)
        assert (
            output.output
            == f"the result has {MAX_RESULT_BYTES + 1} bytes, and the limit is {MAX_RESULT_BYTES}"
        )


async def test_outputs_must_be_in_the_result(talk: Open) -> None:
    tools = tool("order", outputs=["state", "price"]) | tool("text", outputs=["table"])
    async with talk(tools) as spoken:
        assert (await spoken.call("order", number=1)).output == "the result has no price, which the flow uses"
        assert (
            await spoken.call("text")
        ).output == "the result is no JSON object, and the flow uses table of it"


async def test_nothing_is_an_empty_result_that_the_model_answers(talk: Open) -> None:
    async with talk(tool("nothing") | tool("say_nothing")) as spoken:
        assert (await spoken.call("nothing")).output == ""
        assert (await spoken.say("nothing()"))[-1].type == "message"
        silent = await spoken.say("say_nothing()")
        assert silent[-1].type == "function_call_output"


async def test_arguments_are_checked_before_the_call(talk: Open) -> None:
    async with talk(tool("order") | tool("raw")) as spoken:
        wrong = await spoken.call("order", number="many")
        assert wrong.is_error
        assert "number" in wrong.output
        wrong = await spoken.call("raw", n="many")
        assert wrong.output == "invalid arguments: n: 'many' is not of type 'integer'"
        assert (await spoken.call("raw", n=1)).output == "{'n': 1}"


async def test_calls_of_a_session_are_bounded(talk: Open) -> None:
    async with talk(tool("slow") | tool("order")) as spoken:
        spoken.tools._calls.running = RUNNING
        output = await spoken.call("order", number=1)
        assert output.output == f"{RUNNING} tools are running already; call fewer at once"
        spoken.tools._calls.running = 0


async def test_session_that_closes_cancels_no_record(talk: Open) -> None:
    """A call that runs when the session ends is on record with its end."""
    async with talk(tool("slow", timeout_seconds=1)) as spoken:
        running = asyncio.ensure_future(spoken.say('slow({"seconds": 30})'))
        async with asyncio.timeout(60):
            while not spoken.started:  # noqa: ASYNC110 - the record has no event
                await asyncio.sleep(0.01)
        await spoken.session.aclose()
        await asyncio.wait([running], timeout=60)
        assert [completed.status for completed in spoken.completed] in (["cancelled"], ["error"])


def test_modules_of_a_user_are_found_in_the_folder_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tools_of_a_test.py").write_text(
        "from livekit.agents import function_tool\n@function_tool\ndef greet() -> str:\n    return 'hi'\n"
    )
    with pytest.raises(ToolProblem, match=f"was not found; set {TOOLS_PATH} to its folder"):
        load_function("my_tools_of_a_test:greet")
    monkeypatch.setenv(TOOLS_PATH, str(tmp_path / "other"))
    with pytest.raises(ToolProblem, match=f"it is not in {TOOLS_PATH}="):
        load_function("my_tools_of_a_test:greet")
    monkeypatch.setenv(TOOLS_PATH, f"{tmp_path / 'other'}:{tmp_path}")
    assert load_function("my_tools_of_a_test:greet").info.name == "greet"


def test_module_that_ends_the_process_at_its_import_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_the_process.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.setenv(TOOLS_PATH, str(tmp_path))
    with pytest.raises(ToolProblem, match="cannot be imported: SystemExit"):
        load_function("ends_the_process:greet")
