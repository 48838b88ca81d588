"""What the fake nodes cannot do: it runs the pods of Jobs and of `helm test`, as processes.

The commands of their containers run, one after the other, with the environment that the pod describes,
Secrets and ConfigMaps read from the API server; the last exit code becomes the status of the pod. When the
pod goes, the process is ended.
"""

import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from tests.kubernetes.pod_environment import NotRunnable, command_of, environment_of, expanded

from antiphon.cli.stack import process
from antiphon.cli.stack.process import Command

POLL_SECONDS = 0.1
END_SECONDS = 10.0
BUSY = (429, 500, 503, 504)


@dataclass(slots=True)
class Run:
    """A pod, its containers that were started, the last one's process, and those that wait for its end."""

    namespace: str
    name: str
    output: Path
    waiting: list[Mapping[str, Any]]
    started: list[str] = field(default_factory=list)
    running: subprocess.Popen[bytes] | None = None
    code: int | None = None

    def text(self) -> str:
        """Return what the process has printed."""
        return self.output.read_text(errors="replace")


class PodRunner:
    """A thread that runs the pods of Jobs and of `helm test`."""

    def __init__(self, client: httpx.Client, folder: Path, environment: Mapping[str, str]) -> None:
        self.runs: list[Run] = []
        self._client = client
        self._folder = folder
        self._environment = environment  # of all of them: how names of Services are found
        self._by_uid: dict[str, Run] = {}
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="pod runner", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its processes. Raises what has ended the thread before."""
        self._stopping.set()
        self._thread.join(END_SECONDS * 3)
        if self._error is not None:
            raise self._error

    def of(self, namespace: str) -> list[Run]:
        """Return the pods of a namespace that were run, in order."""
        return [run for run in self.runs if run.namespace == namespace]

    def _work(self) -> None:
        try:
            while not self._stopping.wait(POLL_SECONDS):
                try:
                    self._look()
                except httpx.HTTPError as error:
                    if not _is_busy(error):  # else the next look is soon
                        raise
        except Exception as error:  # noqa: BLE001 - raised by stop()
            self._error = error
        finally:
            for run in self.runs:
                if run.running is not None:
                    process.stop(run.running, [signal.SIGTERM], timeout_seconds=END_SECONDS)

    def _look(self) -> None:
        answer = self._client.get("/api/v1/pods")
        answer.raise_for_status()
        pods = {pod["metadata"]["uid"]: pod for pod in answer.json()["items"]}
        for uid, pod in pods.items():
            if uid not in self._by_uid and _is_to_run(pod):
                self._by_uid[uid] = self._run(pod)
        for uid, run in self._by_uid.items():
            if run.running is None:
                continue
            if uid not in pods or "deletionTimestamp" in pods[uid]["metadata"]:
                process.stop(run.running, [signal.SIGTERM], timeout_seconds=END_SECONDS)
            if (code := run.running.poll()) is None:
                continue
            if code == 0 and run.waiting and uid in pods:
                self._start(run, pods[uid])
                continue
            run.code = code
            self._report(run)  # again at the next look, if the API server does not answer
            run.running = None

    def _run(self, pod: Mapping[str, Any]) -> Run:
        where, spec = pod["metadata"], pod["spec"]
        output = self._folder / f"{where['namespace']}.{where['name']}.log"
        containers = [*spec.get("initContainers", ()), spec["containers"][0]]  # ours have one
        run = Run(where["namespace"], where["name"], output, containers)
        self._start(run, pod)
        self.runs.append(run)
        return run

    def _start(self, run: Run, pod: Mapping[str, Any]) -> None:
        container = run.waiting[0]
        try:
            environment = environment_of(self._client, pod, container) | dict(self._environment)
            command = Command(expanded(command_of(container), environment), environment, self._folder)
            run.running = process.spawn(command, run.output)
        except NotRunnable as error:
            run.output.write_text(f"{error}\n")
            run.running, run.code = None, 1
        del run.waiting[0]  # not before: the API server may be busy, then the next look starts it
        run.started.append(container["name"])
        if run.code is not None:
            self._report(run)

    def _report(self, run: Run) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reason = "Completed" if run.code == 0 else "Error"
        ended = {"exitCode": run.code or 0, "reason": reason, "startedAt": now, "finishedAt": now}
        ended["message"] = run.text()[-2000:]
        container = {"name": run.started[-1], "image": "", "imageID": "", "ready": False, "restartCount": 0}
        status = {
            "phase": "Succeeded" if run.code == 0 else "Failed",
            "containerStatuses": [{**container, "state": {"terminated": ended}}],
        }
        answer = self._client.patch(
            f"/api/v1/namespaces/{run.namespace}/pods/{run.name}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        if answer.status_code != httpx.codes.NOT_FOUND:  # its Job was over
            answer.raise_for_status()


def _is_busy(error: httpx.HTTPError) -> bool:
    """Return whether the API server has too much to do, or has not answered."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in BUSY
    return isinstance(error, httpx.TransportError)


def _is_to_run(pod: Mapping[str, Any]) -> bool:
    where = pod["metadata"]
    if "deletionTimestamp" in where or pod["status"].get("phase") != "Running":
        return False
    of_a_job = any(owner["kind"] == "Job" for owner in where.get("ownerReferences", ()))
    return of_a_job or "test" in where.get("annotations", {}).get("helm.sh/hook", "")
