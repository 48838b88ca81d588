"""What the fake nodes cannot do: it runs the pods of Jobs and of `helm test`, as processes.

The command of the container runs with the environment that its pod describes, Secrets and ConfigMaps read
from the API server; its exit code becomes the status of the pod. When the pod goes, the process is ended.
"""

import base64
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from antiphon.cli.stack import process
from antiphon.cli.stack.process import Command

POLL_SECONDS = 0.1
END_SECONDS = 10.0
PYTHON = ("python", "python3", "/opt/antiphon/bin/python")  # what a container calls it
INIT = ("tini", "/opt/tini")
OF_US = re.compile(r"^(ANTIPHON|LIVEKIT|KUBERNETES)_(?!TEST_)")  # of this process, not of the pod
REFERENCE = re.compile(r"\$\((\w+)\)")


class NotRunnable(Exception):
    """A pod that asks for what this machine does not do, or for what is missing."""


@dataclass(slots=True)
class Run:
    """A pod and its process."""

    namespace: str
    name: str
    container: str
    output: Path
    running: subprocess.Popen[bytes] | None
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
                self._look()
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
            if (code := run.running.poll()) is not None:
                run.running, run.code = None, code
                self._report(run)

    def _run(self, pod: Mapping[str, Any]) -> Run:
        where = pod["metadata"]
        container = pod["spec"]["containers"][0]  # ours have one
        output = self._folder / f"{where['namespace']}.{where['name']}.log"
        run = Run(where["namespace"], where["name"], container["name"], output, None)
        self.runs.append(run)
        try:
            command = Command(command_of(container), self._environment_of(pod, container), self._folder)
            run.running = process.spawn(command, output)
        except NotRunnable as error:
            output.write_text(f"{error}\n")
            run.code = 1
            self._report(run)
        return run

    def _report(self, run: Run) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reason = "Completed" if run.code == 0 else "Error"
        ended = {"exitCode": run.code or 0, "reason": reason, "startedAt": now, "finishedAt": now}
        ended["message"] = run.text()[-2000:]
        container = {"name": run.container, "image": "", "imageID": "", "ready": False, "restartCount": 0}
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

    def _environment_of(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
        namespace = pod["metadata"]["namespace"]
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            for kind, key in (("secrets", "secretRef"), ("configmaps", "configMapRef")):
                if key in source:
                    values = self._values(kind, namespace, source[key])
                    found |= {source.get("prefix", "") + name: value for name, value in values.items()}
        for variable in container.get("env", ()):
            value = self._value_of(variable, pod, namespace)
            if value is not None:
                found[variable["name"]] = REFERENCE.sub(lambda match: found.get(match[1], match[0]), value)
        inherited = {name: value for name, value in os.environ.items() if not OF_US.match(name)}
        return inherited | dict(self._environment) | found

    def _value_of(self, variable: Mapping[str, Any], pod: Mapping[str, Any], namespace: str) -> str | None:
        source = variable.get("valueFrom", {})
        for kind, key in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
            if key in source:
                wanted = source[key]
                value = self._values(kind, namespace, wanted).get(wanted["key"])
                if value is None and not wanted.get("optional"):
                    raise NotRunnable(f"{kind} {wanted['name']} has no key {wanted['key']}")
                return value
        if "fieldRef" in source:
            field: Any = pod
            for part in source["fieldRef"]["fieldPath"].split("."):
                field = field[part]
            return str(field)
        return str(variable.get("value", ""))

    def _values(self, kind: str, namespace: str, wanted: Mapping[str, Any]) -> dict[str, str]:
        answer = self._client.get(f"/api/v1/namespaces/{namespace}/{kind}/{wanted['name']}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            if wanted.get("optional"):
                return {}
            raise NotRunnable(f"{kind} {wanted['name']} is missing")
        data = answer.raise_for_status().json().get("data", {})
        if kind == "configmaps":
            return dict(data)
        return {name: base64.b64decode(value).decode() for name, value in data.items()}


def command_of(container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command of a container of ours, with this machine's Python in the place of the image's.

    Without a command it is the entry point of our images: the module of the image's name.
    """
    command = list(container.get("command", ()))
    if not command:
        image = container["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
        name, found, service = image.partition("antiphon-")
        if name or not found:
            raise NotRunnable(f"{container['image']} is not an image of ours")
        command = ["python", "-m", f"antiphon.{service.replace('-', '_')}"]
    if command[0] in INIT:
        command = command[command.index("--") + 1 :] if "--" in command else command[1:]
    if command[0] not in PYTHON:
        raise NotRunnable(f"{command[0]} is not a program of our images")
    return (sys.executable, *command[1:], *container.get("args", ()))


def _is_to_run(pod: Mapping[str, Any]) -> bool:
    where = pod["metadata"]
    if "deletionTimestamp" in where or pod["status"].get("phase") != "Running":
        return False
    of_a_job = any(owner["kind"] == "Job" for owner in where.get("ownerReferences", ()))
    return of_a_job or "test" in where.get("annotations", {}).get("helm.sh/hook", "")
