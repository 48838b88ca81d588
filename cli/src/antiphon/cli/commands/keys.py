"""`antiphon keys create`, `list`, `rotate` and `revoke`."""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from antiphon.cli.errors import StackError
from antiphon.cli.screen import discard_output, err, out, program_name, report_errors, shown, table
from antiphon.contracts.api_keys import Scope

DURATION = re.compile(r"^(\d{1,9})(s|m|h|d)$")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LIST_LIMIT = 200  # of one page

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
KeyIdArgument = Annotated[str, typer.Argument(help="Id of the key: key_…", metavar="KEY")]

app = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke API keys. The key in use needs the scope admin.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[Scope], typer.Option(help="What the key allows; may be repeated.")],
    tenant: Annotated[str | None, typer.Option(help="Its tenant; default: that of the key in use.")] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(help="How long it is valid, as 12h or 90d; default: without end.", metavar="TIME"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print its secret, which is not shown again.

    The secret is the only line on standard output.
    """
    body: Json = {"name": name, "scopes": [str(each) for each in scope]}
    if tenant is not None:
        body["tenant"] = tenant
    if expires_in is not None:
        body["expires_in_seconds"] = seconds_of(expires_in)
    _print_secret(_request("POST", "/v1/keys", body), as_json=as_json)


def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only the keys of this tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the API keys, newest first, without their secrets."""
    query = "" if tenant is None else f"&tenant={_path_part(tenant)}"
    found: list[Json] = []
    cursor = ""
    while True:
        page = _request("GET", f"/v1/keys?limit={LIST_LIMIT}{query}{cursor}")
        found += page["keys"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    if as_json:
        _print_json({"keys": found})
        return
    columns = ("id", "name", "tenant", "prefix", "status", "scopes", "expires_at", "last_used_at")
    table(columns, [[_cell(key[column]) for column in columns] for key in found])


def rotate(
    key: KeyIdArgument,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret stays valid: 0s to 7d.", metavar="TIME")
    ] = "24h",
    as_json: AsJson = False,
) -> None:
    """Replace an API key by one with another secret, and print that secret.

    The secret is the only line on standard output.
    """
    body = {"overlap_seconds": seconds_of(overlap)}
    _print_secret(_request("POST", f"/v1/keys/{_path_part(key)}/rotate", body), as_json=as_json)


def revoke(
    key: KeyIdArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Also the last key of its tenant with the scope admin.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Revoke an API key at once and permanently. Its open streams end within 15 s."""
    revoked = _request("POST", f"/v1/keys/{_path_part(key)}/revoke", {"force": force})
    if as_json:
        _print_json(revoked)
    else:
        err.print(f"revoked: {shown(_named(revoked))}", markup=False)


COMMANDS: dict[str, Callable[..., None]] = {
    "create": create,
    "list": list_keys,
    "rotate": rotate,
    "revoke": revoke,
}
for command_name, command in COMMANDS.items():
    app.command(command_name)(report_errors(command))


def _request(method: str, path: str, body: Json | None = None) -> Json:
    """Send one request with the key in use; the only place that knows the client."""
    from antiphon.cli.api import open_api

    async def sending() -> Json:
        async with open_api() as api:
            answer: Json = await api.request(method, path, body)
            return answer

    return asyncio.run(sending())


def _print_secret(created: Json, *, as_json: bool) -> None:
    if not as_json:
        err.print(f"created: {shown(_named(created))}", markup=False)
        err.print("This is its secret, which is not shown again:", markup=False)
    text = json.dumps(created, indent=2) if as_json else shown(created["secret"])
    try:
        _write(text)
    except OSError as error:
        discard_output()
        raise StackError(
            f"the secret was not written ({error}) and is not shown again: "
            f"run `{program_name()} keys revoke {shown(created['id'])}`"
        ) from error


def _write(text: str) -> None:
    """Write a line; by rich the program would end when the reader is gone."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _named(key: Json) -> str:
    expires = f", expires {key['expires_at']}" if key["expires_at"] else ""
    return f"{key['id']} {key['name']}, tenant {key['tenant']}: {', '.join(key['scopes'])}{expires}"


def _print_json(document: Json) -> None:
    out.print(json.dumps(document, indent=2), markup=False)


def _cell(value: object) -> str:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return "—" if value in {None, ""} else shown(str(value))


def seconds_of(text: str) -> int:
    """Return the seconds of a time such as 24h."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 30m, 24h or 90d")
    return int(found[1]) * SECONDS[found[2]]


def _path_part(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
