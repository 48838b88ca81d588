"""The telephone of a caller in text: transfers succeed, unless a conversation expects that they fail."""

from collections.abc import Callable, Mapping
from typing import Any

from livekit.agents.llm import ToolError

from antiphon.agent_worker.call import NoRecord, TransferFailed
from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.builtin import transfer_tool
from antiphon.agent_worker.transfers import destination
from antiphon.contracts.events.session import CloseReason

Substitute = Callable[[], Any]  # an async function in place of a tool


class TextTelephone:
    """A telephone without a line; `substitutes` are those of the tools that transfer, by name."""

    def __init__(self, bound: BoundFlow, substitutes: Mapping[str, Substitute]) -> None:
        self._bound = bound
        self._substitutes = substitutes

    async def transfer(self, to: str, /) -> None:
        """Transfer the caller. Raises TransferFailed."""
        for person, transfer in self._bound.flow.transfers.items():
            substitute = self._substitutes.get(transfer_tool(person))
            if substitute is None or not self._leads_to(transfer.to, to):
                continue
            try:
                await substitute()
            except ToolError as error:
                raise TransferFailed(error.message) from error

    def _leads_to(self, written: str, to: str) -> bool:
        try:
            return destination(self._bound.text(written)) == to
        except TransferFailed:  # it is no number; a transfer to it does not get here
            return False


class TextRecord(NoRecord):
    """What a conversation in text keeps of the record: whether a transfer has ended it."""

    def __init__(self) -> None:
        self.transferred = False

    def ends_for(self, reason: CloseReason, _detail: str | None = None, /) -> None:
        """Keep the reason of the end of the call."""
        self.transferred = reason is CloseReason.TRANSFERRED
