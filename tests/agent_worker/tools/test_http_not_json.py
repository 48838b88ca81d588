"""Arguments of HTTP tools that JSON cannot carry, as Python reads them from the answer of a model."""

from typing import Any

import httpx2
import pytest
from livekit.agents.llm import ToolError
from tests.agent_worker.tools.conftest import Open
from tests.agent_worker.tools.test_http import ok, serving, tool

from antiphon.agent_worker.flow.definitions import HttpRequest
from antiphon.agent_worker.tools.http import HttpTool
from antiphon.agent_worker.tools.secrets import Secrets

NOT_JSON = {
    "nan": (float("nan"), "amount: must be a finite number"),
    "infinity": (float("-inf"), "amount: must be a finite number"),
    "large": (10**400, "amount: must be a finite number, and one that is not too large"),
    "surrogate": ("half \ud83d", "amount: the text has a lone surrogate"),
    "inside": ({"lines": [{"n": float("inf")}]}, "amount.lines[0].n: must be a finite number"),
    "name": ({"\ud83d": 1}, "amount: a name has a lone surrogate"),
}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/", None),
        ("POST", "/", {"total": ["{amount}"]}),
        ("GET", "/{amount}", None),
        ("GET", "/", None),
    ],
)
async def test_what_json_cannot_carry_is_told_to_the_model(
    talk: Open, method: str, path: str, body: Any
) -> None:
    amount = {"amount": {"multipleOf": 0.5}}
    async with serving(ok) as (url, seen):
        tools = tool(f"{url}{path}", method=method, body=body, arguments=amount)
        async with talk(tools) as spoken:
            for given, told in NOT_JSON.values():
                output = await spoken.call("look_up", amount=given)
                assert output.is_error
                assert output.output.startswith(f"invalid arguments: {told}")
            assert seen == []
            assert not (await spoken.call("look_up", amount=1.5)).is_error


async def test_a_variable_that_json_cannot_carry_is_an_error_of_the_call() -> None:
    request = HttpRequest(method="POST", url="https://a.example/", body={"name": "{metadata.name}"})
    tool = HttpTool(request, Secrets({}), {"metadata.name": "half \ud83d"})
    async with httpx2.AsyncClient() as client:
        with pytest.raises(ToolError, match="the request cannot be made: a variable has a text that JSON"):
            tool.build(client, {})
