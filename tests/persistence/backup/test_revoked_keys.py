"""A restore over buckets that are in use: a key that has ended since the backup opens nothing again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import ApiKey, decode_key, encode_key, key_digest
from antiphon.contracts.streams import KEYS
from antiphon.persistence.backup.back_up import back_up
from antiphon.persistence.backup.restore import restore
from antiphon.persistence.settings import BackupSettings

NOW = datetime(2026, 11, 20, tzinfo=UTC)


async def test_a_key_that_ended_since_the_backup_stays_so(
    settings: BackupSettings, bus: Bus, tmp_path: Path
) -> None:
    bucket = await bus.bucket(KEYS.name)
    used = f"used.{key_digest('leaked')}"
    made = {
        name: ApiKey(tenant="acme", name=name, scopes=frozenset({"admin"}), created_at=NOW)
        for name in ("leaked", "rotated", "renamed")
    }
    for name, key in made.items():
        await bucket.put(key_digest(name), encode_key(key))
    await bucket.put(used, b"before")
    await back_up(settings, tmp_path / "backup", ["buckets"], lambda _: None)
    ended = {
        "leaked": replace(made["leaked"], revoked_at=NOW),
        "rotated": replace(made["rotated"], expires_at=NOW + timedelta(days=1), replaced_by="key_new"),
    }
    for name, key in {**ended, "renamed": replace(made["renamed"], name="other")}.items():
        await bucket.put(key_digest(name), encode_key(key))
    await bucket.put(used, b"since")
    said: list[str] = []

    await restore(settings, tmp_path / "backup", ["buckets"], overwrite=True, dry_run=False, say=said.append)

    for name, key in {**ended, "renamed": made["renamed"]}.items():
        stored = await bucket.get(key_digest(name))
        assert stored is not None
        found = decode_key(key_digest(name), stored)
        assert replace(found, id="") == key
    assert await bucket.get(used) == b"before"
    assert any("2 keys" in text and "stay" in text for text in said), said
