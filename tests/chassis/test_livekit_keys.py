"""The keys of LiveKit follow their files, one look a second, through the symlinks of a mounted Secret."""

from pathlib import Path

import pytest

from antiphon.chassis.livekit_keys import LOOK_AGAIN_SECONDS, KeyPair, LiveKitKeys
from antiphon.chassis.secret_files import InvalidSecretFile

SECRET = "s3cret-of-livekit"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Mounted:
    """A volume as the kubelet mounts it: files are links into a folder that is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0
        self.key, self.secret = folder / "key", folder / "secret"

    def write(self, key: str, secret: str) -> None:
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        (version / "key").write_text(key)
        (version / "secret").write_text(secret)
        draft = self.folder / "..data_tmp"
        draft.symlink_to(version.name)
        draft.rename(self.folder / "..data")
        if self._version == 1:
            for path in (self.key, self.secret):
                path.symlink_to(f"..data/{path.name}")

    def keys(self, clock: Clock) -> LiveKitKeys:
        return LiveKitKeys("", "", key_file=self.key, secret_file=self.secret, clock=clock)


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    volume = Mounted(tmp_path)
    volume.write("old\n", f"{SECRET}\n")
    return volume


def test_a_replaced_file_is_noticed_within_a_second(mounted: Mounted) -> None:
    clock = Clock()
    keys = mounted.keys(clock)
    mounted.write("new\nold\n", f"n3w\n{SECRET}\n")

    assert keys.current == ("old", SECRET)
    clock.now += LOOK_AGAIN_SECONDS

    assert keys.current == ("new", "n3w")
    assert keys.accepted == (("new", "n3w"), ("old", SECRET))


@pytest.mark.parametrize(
    ("key", "secret"), [("a\nb", SECRET), ("", SECRET), ("a\n" * 11, f"{SECRET}\n" * 11)]
)
def test_a_damaged_file_is_logged_once_and_the_earlier_keys_are_used(
    key: str, secret: str, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    keys = mounted.keys(clock)
    mounted.write(key, secret)

    for _ in range(3):
        clock.now += LOOK_AGAIN_SECONDS
        assert keys.current == ("old", SECRET)

    assert [record.message.split()[0] for record in caplog.records] == ["livekit.keys_invalid"]
    assert SECRET not in str(vars(caplog.records[0]))
    with pytest.raises(InvalidSecretFile) as refusal:
        mounted.keys(clock)
    assert SECRET not in str(refusal.value)


def test_a_key_may_be_given_and_only_its_secret_in_a_file(mounted: Mounted) -> None:
    keys = LiveKitKeys("key", "", secret_file=mounted.secret)

    assert keys.current == KeyPair("key", SECRET)
    assert SECRET not in repr(keys.current)
    assert LiveKitKeys("a", "b").current == ("a", "b")
