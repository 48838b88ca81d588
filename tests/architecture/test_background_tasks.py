"""No task ends unobserved: a background task is a BackgroundTask, any other task has an owner named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = [
    path
    for folder in ("contracts", "chassis", "recorder", "services", "client", "cli")
    for path in sorted((ROOT / folder).glob("**/src/**/*.py"))
    if ".venv" not in path.parts
]

# The files that start tasks by hand, each with the owner that notices their end.
OWNED = {
    "agent_worker/conversation/text.py": "it waits for the answer or the end, and cancels the other one",
    "agent_worker/caller.py": "it waits for the first of its tasks and cancels the others before it returns",
    "agent_worker/hang_up.py": "it logs what fails, and closes the session in every case",
    "agent_worker/job.py": "`entry` awaits the connection; the greeting's callback reports its failure",
    "agent_worker/push_to_talk.py": "its callback logs the error of a turn that its limit has ended",
    "agent_worker/tools/run.py": "`run` takes its result, or cancels it and keeps it until it ends",
    "agent_worker/keys.py": "`_done` logs and records its error",
    "agent_worker/voicemail.py": "it logs what fails, and hangs up in every case",
    "agent_worker/apology.py": "`apologised` waits for it, and for nothing of it",
    "agent_worker/providers/plugin_faults.py": "`timed` awaits it, or cancels it",
    "agent_worker/providers/recognisers.py": "a stream takes the errors of its tasks; a trial keeps its own",
    "agent_worker/worker.py": "`serve` ends with the first of its tasks and raises its error",
    "chassis/background.py": "BackgroundTask itself",
    "chassis/bus/client.py": "`end` waits for the close and takes its error",
    "chassis/bus/connection.py": "`_connect` awaits the attempt, or cancels it at the deadline",
    "chassis/bus/group_commit.py": "callers await futures, which the task resolves in every case",
    "chassis/bus/subscribe.py": "`Connection.unsubscribe` raises nothing, and has a deadline",
    "chassis/log/batches.py": "`next` takes its result; `close` cancels it",
    "chassis/log/session_follower.py": "`next` takes its result; `close` cancels it",
    "chassis/shutdown.py": "each wait awaits its tasks before it returns",
    "cli/caller/audio.py": "`close` awaits the microphone; a track ends with its call",
    "cli/caller/call_log.py": "it wakes waiters, which have deadlines",
    "cli/caller/caller.py": "one line of the transcript; waiters for lines have deadlines",
    "cli/commands/call.py": "`record_call` awaits the timeline",
    "cli/supervisor/runner.py": "`start` raises the first error; later ones are states; `stop` awaits it",
    "cli/supervisor/supervisor.py": "`run` and `_run_together` await their tasks",
    "persistence/backup/back_up.py": "the dump cancels and awaits it when it ends",
    "persistence/backup/command.py": "the command awaits it; a signal cancels it",
    "persistence/backup/postgres_tools.py": "`_running` cancels and awaits it when the tool has ended",
    "persistence/ingest/group_writer.py": "callers await futures, which the task resolves in every case",
    "persistence/leases/work.py": "`finished` awaits the work, or cancels it when it does not end",
    "persistence/rebuild/worker.py": "`main` awaits both, and logs the error of the fold",
    "persistence/rebuild/write_behind.py": "`flush` takes its result; `close` cancels it",
    "persistence/verify/log_rows.py": "`pages` awaits it, and cancels it when its reader ends early",
    "recorder/limits.py": "the end of a call outlasts the waiting for its limit; `stop` waits for it",
    "recorder/outbox/bus_link.py": "every user of the link awaits it",
    "recorder/outbox/outbox.py": "the pump retries every error; `close` awaits it",
    "recorder/readiness.py": "its errors are logged; `wait_sent` awaits it",
    "recorder/recording.py": "`finish` awaits it",
    "session_api/feed/export.py": "`export_lines` awaits each step, and ends the last one",
    "session_api/sessions/idempotency.py": "`is_known` waits for it; `_forget` takes the error of a late one",
    "session_api/sessions/ready.py": "`wait` ends with the first of its tasks and awaits them all",
    "session_api/sessions/sse.py": "`live` ends with it and logs its error",
}


def _name(path: Path) -> str:
    return path.relative_to(next(parent for parent in path.parents if parent.name == "antiphon")).as_posix()


def _groups(tree: ast.AST) -> set[str]:
    """Return the names of task groups: a group awaits its tasks and raises their errors."""
    return {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name) and "TaskGroup" in ast.unparse(item.context_expr)
    }


def tasks_by_hand(source: str) -> Iterator[str]:
    """Yield the calls that start a task without a group."""
    tree = ast.parse(source)
    groups = _groups(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, method = name.rpartition(".")
        if method in ("create_task", "ensure_future", "run_coroutine_threadsafe") and owner not in groups:
            yield name


def test_every_task_has_an_owner_and_every_owner_is_needed() -> None:
    starting = {_name(path): calls for path in PRODUCT if (calls := list(tasks_by_hand(path.read_text())))}

    without = {name: calls for name, calls in starting.items() if name not in OWNED}
    assert without == {}, "use BackgroundTask, or name the owner above"
    assert OWNED.keys() - starting.keys() == set()


def test_tasks_are_found() -> None:
    source = """
async def f():
    async with asyncio.TaskGroup() as group:
        group.create_task(a())
    asyncio.create_task(b())
    asyncio.get_running_loop().create_task(c())
    x = ensure_future(d())
"""
    assert list(tasks_by_hand(source)) == [
        "asyncio.create_task",
        "asyncio.get_running_loop().create_task",
        "ensure_future",
    ]
