"""What a container of a pod would run, and with which variables: as the kubelet reads a pod."""

import base64
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import httpx

PYTHON = ("python", "python3", "/opt/antiphon/bin/python")  # what a container calls it
INIT = ("tini", "/opt/tini")
OF_US = re.compile(r"^(ANTIPHON|LIVEKIT|KUBERNETES)_(?!TEST_)")  # of this process, not of the pod
IMAGE = re.compile(r"(?:^|/)antiphon/([a-z-]+)[:@]")
REFERENCE = re.compile(r"\$\((\w+)\)")


class NotRunnable(Exception):
    """A pod that asks for what this machine does not do, or for what is missing."""


def command_of(container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command of a container of ours, with this machine's Python in the place of the image's.

    Without a command it is the entry point of our images: the module of the image's name.
    """
    command = list(container.get("command", ()))
    if not command:
        image = IMAGE.search(container["image"])
        if image is None:
            raise NotRunnable(f"{container['image']} is not an image of ours")
        command = ["python", "-m", f"antiphon.{image[1].replace('-', '_')}"]
    if command[0] in INIT:
        command = command[command.index("--") + 1 :] if "--" in command else command[1:]
    if command[0] not in PYTHON:
        raise NotRunnable(f"{command[0]} is not a program of our images")
    return (sys.executable, *command[1:], *container.get("args", ()))


def environment_of(
    client: httpx.Client, pod: Mapping[str, Any], container: Mapping[str, Any]
) -> dict[str, str]:
    """Return the variables of a container, Secrets and ConfigMaps read from the API server.

    Raises NotRunnable if one of them is missing.
    """
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        for kind, key in (("secrets", "secretRef"), ("configmaps", "configMapRef")):
            if key in source:
                values = _values(client, kind, namespace, source[key])
                found |= {source.get("prefix", "") + name: value for name, value in values.items()}
    for variable in container.get("env", ()):
        value = _value_of(client, variable, pod, namespace)
        if value is not None:
            found[variable["name"]] = _expanded(value, found)
    inherited = {name: value for name, value in os.environ.items() if not OF_US.match(name)}
    return inherited | found


def expanded(command: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a command with the values of variables in the place of `$(NAME)`."""
    return tuple(_expanded(part, environment) for part in command)


def _expanded(value: str, known: Mapping[str, str]) -> str:
    return REFERENCE.sub(lambda match: known.get(match[1], match[0]), value)


def _value_of(
    client: httpx.Client, variable: Mapping[str, Any], pod: Mapping[str, Any], namespace: str
) -> str | None:
    source = variable.get("valueFrom", {})
    for kind, key in (("secrets", "secretKeyRef"), ("configmaps", "configMapKeyRef")):
        if key in source:
            wanted = source[key]
            value = _values(client, kind, namespace, wanted).get(wanted["key"])
            if value is None and not wanted.get("optional"):
                raise NotRunnable(f"{kind} {wanted['name']} has no key {wanted['key']}")
            return value
    if "fieldRef" in source:
        field: Any = pod
        for part in source["fieldRef"]["fieldPath"].split("."):
            field = field[part]
        return str(field)
    return str(variable.get("value", ""))


def _values(client: httpx.Client, kind: str, namespace: str, wanted: Mapping[str, Any]) -> dict[str, str]:
    answer = client.get(f"/api/v1/namespaces/{namespace}/{kind}/{wanted['name']}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        if wanted.get("optional"):
            return {}
        raise NotRunnable(f"{kind} {wanted['name']} is missing")
    data = answer.raise_for_status().json().get("data", {})
    if kind == "configmaps":
        return dict(data)
    return {name: base64.b64decode(value).decode() for name, value in data.items()}
