"""The cursor: one position per partition, and the opaque text that stands for it outside of the system.

The text is base64 of bytes: a version, a fingerprint of the log, which partitions the cursor has (a bit each,
the first partition the lowest), the least of their positions, how much greater each position is (numbers of
seven bits per byte, the lowest first), and a checksum of all that. In every version the first byte is the
version and the last four are the checksum.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.subjects import PARTITIONS, partition_of

VERSION = 1
FINGERPRINT_BYTES = 4
PARTITIONS_BYTES = (PARTITIONS + 7) // 8
CHECKSUM_BYTES = 4
LARGEST_POSITION = 2**63 - 1  # Postgres: bigint
MAX_TEXT = 512  # characters; no cursor is longer

_POSITIONS_START = 1 + FINGERPRINT_BYTES + PARTITIONS_BYTES


class InvalidCursor(ContractError):
    """The text is no cursor of this log; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last position read in each partition; a partition that is absent is read from its start."""

    positions: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Leave out partitions that are read from their start anyway, so that equal cursors are equal."""
        if 0 in self.positions.values():
            positions = {partition: position for partition, position in self.positions.items() if position}
            object.__setattr__(self, "positions", positions)

    def after(self, partition: int) -> int:
        """Return the last position read in a partition; 0 when none was."""
        return self.positions.get(partition, 0)

    def advanced(self, envelopes: Iterable[Envelope]) -> "Cursor":
        """Return the cursor moved past these committed envelopes; it never moves back."""
        return self.moved(
            (partition_of(envelope.subject), envelope.position)
            for envelope in envelopes
            if isinstance(envelope.position, int)
        )

    def moved(self, positions: Iterable[tuple[int, int]]) -> "Cursor":
        """Return the cursor moved to positions of partitions; it never moves back."""
        moved = dict(self.positions)
        for partition, position in positions:
            if position > moved.get(partition, 0):
                moved[partition] = position
        return Cursor(moved)

    def reaches(self, until: "Cursor", partitions: Collection[int]) -> bool:
        """Return whether the cursor is at or after another one in each of the partitions."""
        return all(self.after(partition) >= until.after(partition) for partition in partitions)

    def encode(self, log_id: str) -> str:
        """Return the cursor as opaque text, safe in a URL, which is valid for the log with this id only."""
        present = sorted(self.positions)
        least = min(self.positions.values(), default=0)
        raw = bytearray((VERSION,))
        raw += _fingerprint(log_id)
        raw += sum(1 << partition for partition in present).to_bytes(PARTITIONS_BYTES, "little")
        _append_number(raw, least)
        for partition in present:
            _append_number(raw, self.positions[partition] - least)
        raw += _checksum(raw)
        return _text(raw)

    @classmethod
    def parse(cls, text: str, log_id: str) -> "Cursor":
        """Parse the text of a cursor of the log with this id.

        Raises InvalidCursor.
        """
        raw = _bytes(text)
        if raw[0] != VERSION:
            raise InvalidCursor(
                f"the cursor has version {raw[0]}, and this service reads version {VERSION}: a later version "
                "of Antiphon made it. Upgrade this service, or start without the cursor"
            )
        if raw[1 : 1 + FINGERPRINT_BYTES] != _fingerprint(log_id):
            raise InvalidCursor(
                "the cursor belongs to the log of another deployment: use it there, or start without it"
            )
        return cls(_positions(raw))


def _positions(raw: bytes) -> dict[int, int]:
    present = int.from_bytes(raw[1 + FINGERPRINT_BYTES : _POSITIONS_START], "little")
    numbers = list(_numbers(raw[_POSITIONS_START:-CHECKSUM_BYTES]))
    partitions = [partition for partition in range(PARTITIONS) if present >> partition & 1]
    if present >> PARTITIONS or len(numbers) != 1 + len(partitions):
        raise _impossible("other partitions than the log has")
    least = numbers[0]
    positions = {partition: least + more for partition, more in zip(partitions, numbers[1:], strict=True)}
    if max(positions.values(), default=least) > LARGEST_POSITION:
        raise _impossible("a position that no log reaches")
    return positions


def _append_number(raw: bytearray, number: int) -> None:
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    raw.append(number)


def _numbers(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise _impossible("half of a number")


def _text(raw: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Return the bytes of a text that no one has changed, of whatever version."""
    if len(text) > MAX_TEXT:
        raise _corrupt(text)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _corrupt(text) from error
    # Several texts stand for the same bytes: the last character has bits that nobody reads.
    if len(raw) <= _POSITIONS_START + CHECKSUM_BYTES or _text(raw) != text:
        raise _corrupt(text)
    if raw[-CHECKSUM_BYTES:] != _checksum(raw[:-CHECKSUM_BYTES]):
        raise _corrupt(text)
    return raw


def _fingerprint(log_id: str) -> bytes:
    return hashlib.blake2b(log_id.encode(), digest_size=FINGERPRINT_BYTES, person=b"antiphon log").digest()


def _checksum(raw: bytes | bytearray) -> bytes:
    return zlib.crc32(raw).to_bytes(CHECKSUM_BYTES, "big")


def _corrupt(text: str) -> InvalidCursor:
    return InvalidCursor(
        f"{text[:80]!r} is not a cursor, or it was changed on its way: pass a cursor as it was handed out"
    )


def _impossible(what: str) -> InvalidCursor:
    return InvalidCursor(f"the cursor names {what}: this system never made it; start without it")
