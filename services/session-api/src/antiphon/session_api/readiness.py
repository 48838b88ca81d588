"""Ready means: sessions can be created. What only reads need is reported, and turns nothing off."""

from collections.abc import Mapping

from antiphon.chassis.health import Check, Health


class Readiness(Health):
    """Judge by the required checks; show the others beside them."""

    def __init__(self, required: Mapping[str, Check], reported: Mapping[str, Check]) -> None:
        super().__init__(required)
        self._reported = Health(reported)

    async def report(self) -> dict[str, object]:
        """Run all checks (see Health.report); `reported` never makes the service unready."""
        report = await super().report()
        beside = await self._reported.report()
        return {**report, "reported": beside["checks"]}
