"""The command that prints the users of NATS: an operator puts them into the server, nothing here does."""

import re
from typing import Annotated

import typer

UNITS = {"": 1, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def nats_users(
    tenant: Annotated[
        list[str] | None,
        typer.Option(metavar="TENANT", help="A user that hears the events of this tenant; again for more."),
    ] = None,
    consumer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A user for the consumer of this name; again for more."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="config: of nats-server; json: what a tool of accounts needs.")
    ] = "config",
    max_file: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="For all streams, with each copy, such as 32GB; -1 is what the server has."
        ),
    ] = "-1",
) -> None:
    """Print the accounts, users, permissions and limits of NATS: each service may do its work, and no more.

    It reads and changes nothing. The configuration takes passwords from the environment of the server:
    NATS_SESSION_API_PASSWORD for the user session-api, and so on.
    """
    from antiphon.chassis.nats_config import Limits, accounts, as_config, as_data, variable_of
    from antiphon.chassis.nats_users import InvalidName, users

    if form not in ("config", "json"):
        raise typer.BadParameter("--format is one of config, json")
    limits = Limits(file_bytes=_size(max_file))
    try:
        chosen = users(tenants=tenant or (), consumers=consumer or ())
    except InvalidName as error:
        raise typer.BadParameter(str(error)) from error
    if len({variable_of(user) for user in chosen}) < len(chosen):
        raise typer.BadParameter("two names differ in - and _ or in case alone: they would share a password")
    found = accounts(chosen, limits)
    typer.echo(as_config(found, variable_of) if form == "config" else as_data(found), nl=False)


def _size(text: str) -> int:
    if text == "-1":
        return -1
    found = re.fullmatch(r"([1-9][0-9]{0,15})(|MB|GB|TB)", text)
    if found is None:
        raise typer.BadParameter("--max-file is a number of bytes, or of MB, GB or TB, such as 32GB; or -1")
    return int(found[1]) * UNITS[found[2]]
