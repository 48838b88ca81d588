"""A page costs what is in it: Postgres reads no more of a partition than that, however long the log is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.chassis.database import Database
from antiphon.chassis.log import partitions

EVENTS = 40_000
LIMIT = 50  # of each partition
SCANNED = 200

FILL = """
insert into event_log
    (session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope)
select 'ses_' || lpad((n / 40)::text, 26, '0'), n % 40 + 1, (n / 40) % 4, n + 1,
       case when (n / 40) % 20 = 7 then 'rare' else 'default' end, n::text,
       case when n % 10 = 0 then 'turn.saved' else 'agent_state_changed' end, 1, now(),
       json_build_object('text', repeat('x', 200))
  from generate_series(0, $1 - 1) as n
"""
CASES: dict[str, tuple[dict[str, bool], str]] = {
    "everything": ({"tenant": False, "types": False}, ""),
    "types": ({"tenant": False, "types": True}, f", {SCANNED}, '{{turn.saved}}'"),
    "a type that no event has": ({"tenant": False, "types": True}, f", {SCANNED}, '{{none}}'"),
    "a tenant": ({"tenant": True, "types": False}, ", 'rare'"),
    "a tenant that has nothing": ({"tenant": True, "types": False}, ", 'nobody'"),
    "types of a tenant": ({"tenant": True, "types": True}, f", {SCANNED}, '{{turn.saved}}', 'rare'"),
}
TYPES = ["smallint[]", "bigint[]", "bigint[]", "bigint", "bigint"]
MORE = {
    (True, True): ["bigint", "text[]", "text"],
    (False, True): ["bigint", "text[]"],
    (True, False): ["text"],
}


@pytest.mark.parametrize("analyzed", [True, False])
async def test_a_page_reads_no_more_than_it_may_hold(analyzed: bool, database: Database) -> None:
    await database.pool.execute(FILL, EVENTS)
    if analyzed:
        await database.pool.execute("analyze event_log")
    for mode in ("force_custom_plan", "force_generic_plan"):
        for name, (chosen, more) in CASES.items():
            for after, until in ((0, "null"), (EVENTS // 2, "null"), (0, str(EVENTS // 2))):
                plan = await _explain(database, mode, chosen, after, until, more)
                most = max(_rows(plan), default=0)
                assert most <= SCANNED, (mode, name, after, until)


async def _explain(
    database: Database, mode: str, chosen: dict[str, bool], after: int, until: str, more: str
) -> Any:
    types = ", ".join(TYPES + MORE.get((chosen["tenant"], chosen["types"]), []))
    arguments = (
        f"'{{0,1,2,3}}', array_fill({after}, array[4]), array[{until},{until},{until},{until}]::bigint[]"
    )
    async with database.transaction() as connection:
        await connection.execute(f"set local plan_cache_mode = {mode}")
        await connection.execute(f"prepare page ({types}) as {partitions._statement(**chosen)}")
        found = await connection.fetchval(
            f"explain (analyze, format json) execute page ({arguments}, {LIMIT}, 1000000{more})"
        )
        await connection.execute("deallocate page")
    return json.loads(found)[0]["Plan"]


def _rows(plan: dict[str, Any]) -> Iterator[float]:
    """Yield how many rows each scan of the log has looked at, of one partition."""
    if plan.get("Relation Name") == "event_log":
        yield plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    for inner in plan.get("Plans", []):
        yield from _rows(inner)
