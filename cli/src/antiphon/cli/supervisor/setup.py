"""The set-up steps before the services start: credentials, streams, the API key, tables, flows."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from antiphon.chassis.audit import Audit, operator
from antiphon.chassis.bus import Bus, BusError, KeyExists
from antiphon.chassis.deployment import InvalidDeployment, deployment_of
from antiphon.chassis.nats_access import NatsAccess
from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import process as processes
from antiphon.cli.stack.livekit import Keys
from antiphon.cli.stack.process import Command
from antiphon.contracts.api_keys import (
    ApiKey,
    InvalidKey,
    Scope,
    decode_key,
    encode_key,
    key_digest,
    new_key_id,
    shown_prefix,
)
from antiphon.contracts.audit import Act, ActKind
from antiphon.contracts.ids import DEFAULT_TENANT
from antiphon.contracts.streams import KEYS

COMMAND_SECONDS = 120.0


class Credentials(msgspec.Struct, frozen=True):
    """The credentials of one stack, generated once and stored in its folder."""

    api_key: str
    livekit_api_key: str
    livekit_api_secret: str

    @property
    def livekit(self) -> Keys:
        """The key pair of LiveKit."""
        return Keys(self.livekit_api_key, self.livekit_api_secret)


def credentials_of(settings: StackSettings) -> Credentials:
    """Return the stack's credentials, with the keys of an external LiveKit server if there is one."""
    own = _stored_credentials(settings.home / "credentials.json")
    external = external_keys(settings)
    if external is None:
        return own
    return msgspec.structs.replace(own, livekit_api_key=external.key, livekit_api_secret=external.secret)


def external_keys(settings: StackSettings) -> Keys | None:
    """Return the keys of an external LiveKit server; None if the stack runs its own."""
    if not (settings.livekit_url and settings.livekit_api_key and settings.livekit_api_secret):
        return None
    return Keys(settings.livekit_api_key, settings.livekit_api_secret)


def _stored_credentials(path: Path) -> Credentials:
    if path.exists():
        try:
            return msgspec.json.decode(path.read_bytes(), type=Credentials)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise StackError(
                f"{path} is damaged: restore it, or delete it, and the next `antiphon up` makes new keys"
            ) from None
    livekit = Keys.generate()
    made = Credentials(f"ak_{secrets.token_urlsafe(24)}", livekit.key, livekit.secret)
    write_private(path, msgspec.json.encode(made).decode())
    return made


@asynccontextmanager
async def connected(access: NatsAccess) -> AsyncIterator[Bus]:
    """Connect to the broker; translate its errors to StackError."""
    try:
        bus = await Bus.connect(access, name="antiphon-up")
        try:
            yield bus
        finally:
            await bus.close()
    except BusError as error:
        raise StackError(f"NATS at {', '.join(access.servers)}: {error}") from error


async def make_identity(bus: Bus) -> None:
    """Make the identity of the deployment if there is none: agents may not.

    Raises StackError for one that is damaged.
    """
    try:
        await deployment_of(bus)
    except InvalidDeployment as error:
        raise StackError(str(error)) from error


async def publish_key(bus: Bus, api_key: str, now: datetime) -> None:
    """Put the development API key, with every scope, into the bucket that session-api reads.

    A record of an earlier version gets the scopes and fields of this one; one that was revoked stays so.
    Raises StackError for one that is damaged: it may have been revoked.
    """
    digest = key_digest(api_key)
    keys = await bus.bucket(KEYS.name)
    made = ApiKey(
        tenant=DEFAULT_TENANT,
        name="development",
        scopes=frozenset(Scope),
        created_at=now.astimezone(UTC),
        id=new_key_id(now, secrets.token_bytes(10)),
        prefix=shown_prefix(api_key),
        operator=True,
    )
    entry = await keys.entry(digest)
    if entry is None:
        with suppress(KeyExists):
            async with Audit(bus).recorded(Act(ActKind.KEY_BOOTSTRAP, made.tenant, operator(), made.id)):
                await keys.create(digest, encode_key(made))
        return
    try:
        found = decode_key(digest, entry.value)
    except InvalidKey as error:
        raise StackError(
            f"the record of this stack's API key is damaged ({error}): delete credentials.json of the stack, "
            "and the next `antiphon up` makes new keys"
        ) from None
    upgraded = msgspec.structs.replace(
        found, scopes=found.scopes | made.scopes, prefix=made.prefix, operator=True
    )
    if encode_key(upgraded) != entry.value:
        # when it was changed since it was read, the change wins; the next start upgrades it
        await keys.update(digest, encode_key(upgraded), entry.revision)


async def run_to_end(name: str, command: Command, output: Path) -> None:
    """Run a command and wait for it.

    Raises StackError with the end of its output if it fails or takes longer than 120 s.
    """
    process = processes.spawn(command, output)
    try:
        code = await asyncio.to_thread(process.wait, COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        processes.kill(process)
    if code != 0:
        how = f"failed with code {code}" if code is not None else f"did not end in {COMMAND_SECONDS:g} s"
        raise StackError(f"{name} {how}:\n{processes.last_lines(output)}")
