"""The usage of a session: each agent job counts from zero, so the counts of its jobs are added up."""

from collections.abc import Iterable, Mapping
from operator import attrgetter

from msgspec.structs import replace

from antiphon.contracts.event import LARGEST_COUNT
from antiphon.contracts.events.usage import ModelUsage

FORGOTTEN = "earlier"  # the key of jobs that are no longer counted apart
MAX_JOBS = 16

_TEXTS = ("kind", "provider", "model")
_COUNTS = tuple(name for name in ModelUsage.__struct_fields__ if name not in _TEXTS)
_model = attrgetter(*_TEXTS)


def with_job(
    by_job: Mapping[str, list[ModelUsage]], job: str, models: list[ModelUsage]
) -> dict[str, list[ModelUsage]]:
    """Return the usage by job with the newest counts of one; of more than MAX_JOBS, the oldest are summed."""
    grown = {**by_job, job: models}
    while len(grown) > MAX_JOBS:
        oldest = next(known for known in grown if known not in (FORGOTTEN, job))
        grown[FORGOTTEN] = total([grown.get(FORGOTTEN, []), grown.pop(oldest)])
    return grown


def total(usages: Iterable[list[ModelUsage]]) -> list[ModelUsage]:
    """Return the sum for each model, in the order in which the models come first."""
    sums: dict[tuple[str, ...], ModelUsage] = {}
    for usage in usages:
        for model in usage:
            known = sums.get(_model(model))
            sums[_model(model)] = model if known is None else _sum(known, model)
    return list(sums.values())


def _sum(one: ModelUsage, other: ModelUsage) -> ModelUsage:
    counts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    return replace(
        one,
        **{n: min(count, LARGEST_COUNT) if isinstance(count, int) else count for n, count in counts.items()},
    )
