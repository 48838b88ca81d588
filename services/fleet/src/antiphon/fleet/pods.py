"""The pods of the workers, at the API server of Kubernetes: a list and a patch need no client library."""

import os
from collections.abc import Mapping
from pathlib import Path
from ssl import create_default_context
from typing import Any, Final

import httpx

from antiphon.fleet.settings import FleetSettings

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
REQUEST_SECONDS: Final = 5.0
PAGE: Final = 500
MAX_PODS: Final = 20_000
# Only the metadata: a pod of its own has tens of kilobytes.
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
MERGE: Final = "application/merge-patch+json"


class ApiServerRefused(Exception):
    """The API server refuses a request; the message says what to do."""


class NotOnKubernetes(Exception):
    """What a pod has is missing; the message names it."""


class Pods:
    """The pods of one namespace that have the labels of workers."""

    def __init__(self, client: httpx.AsyncClient, namespace: str, selector: str, token: Path) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._token = token

    async def costs(self) -> dict[str, int | None]:
        """Return the deletion cost of each pod that is not being deleted, None where it has none.

        Raises ApiServerRefused, httpx.HTTPError.
        """
        found: dict[str, int | None] = {}
        parameters = {"labelSelector": self._selector, "limit": str(PAGE)}
        for _ in range(MAX_PODS // PAGE):
            page = await self._request(
                "GET", self._path, params=parameters, headers={"Accept": METADATA_ONLY}
            )
            document = page.json()
            metadata = [item["metadata"] for item in document["items"]]
            found |= {
                each["name"]: _number((each.get("annotations") or {}).get(COST))
                for each in metadata
                if not each.get("deletionTimestamp")
            }
            if not (more := document["metadata"].get("continue")):
                return found
            parameters["continue"] = more
        raise ApiServerRefused(
            f"more than {MAX_PODS} pods have the labels {self._selector}: choose narrower ones"
        )

    async def set_cost(self, pod: str, cost: int) -> bool:
        """Write the deletion cost of a pod; return whether the pod exists.

        Raises ApiServerRefused, httpx.HTTPError.
        """
        patch = {"metadata": {"annotations": {COST: str(cost)}}}
        answer = await self._request(
            "PATCH", f"{self._path}/{pod}", json=patch, headers={"Content-Type": MERGE}
        )
        return answer.status_code != httpx.codes.NOT_FOUND

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str], **more: Any
    ) -> httpx.Response:
        token = self._token.read_text().strip()  # Kubernetes replaces it every hour
        answer = await self._client.request(
            method, path, headers={**headers, "Authorization": f"Bearer {token}"}, **more
        )
        if answer.is_success or (method == "PATCH" and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        reason = f"{method} {path}: {answer.status_code} {_message(answer)}"
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            reason += " (the service account needs the verbs list and patch on pods of the namespace)"
        raise ApiServerRefused(reason)


def connect(settings: FleetSettings, environment: Mapping[str, str] = os.environ) -> Pods:
    """Return the pods, as the files and variables say that every pod has; nothing is asked yet.

    Raises NotOnKubernetes.
    """
    folder = settings.service_account
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    url = settings.api_server or f"https://{f'[{host}]' if ':' in host else host}:{port}"
    if not settings.api_server and not host:
        raise NotOnKubernetes(
            "ANTIPHON_FLEET_DELETION_COST is kubernetes, but this is no pod of Kubernetes: set it to off, or "
            "ANTIPHON_FLEET_API_SERVER"
        )
    try:
        (folder / "token").read_text()
        namespace = settings.namespace or (folder / "namespace").read_text().strip()
        verify = create_default_context(cafile=str(folder / "ca.crt")) if url.startswith("https") else True
    except OSError as error:
        raise NotOnKubernetes(
            f"{folder} lacks the token of a service account: {error.strerror or error!r}; "
            "the pod needs automountServiceAccountToken: true"
        ) from error
    client = httpx.AsyncClient(base_url=url, verify=verify, timeout=REQUEST_SECONDS, trust_env=False)
    return Pods(client, namespace, settings.pod_selector, folder / "token")


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None  # as the controllers of Kubernetes read it


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
