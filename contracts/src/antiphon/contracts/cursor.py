"""The cursor: one position per partition, as opaque text."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.subjects import PARTITIONS, partition_of

_positions = msgspec.json.Decoder(dict[int, int])


class InvalidCursor(ContractError):
    """The text is not a cursor issued by this system."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last position read in each partition; a partition that is absent is read from its start."""

    positions: Mapping[int, int] = field(default_factory=dict)

    def after(self, partition: int) -> int:
        """Return the last position read in a partition; 0 when none was."""
        return self.positions.get(partition, 0)

    def advanced(self, envelopes: Iterable[Envelope]) -> "Cursor":
        """Return the cursor moved past these committed envelopes; it never moves back."""
        positions = dict(self.positions)
        for envelope in envelopes:
            if isinstance(envelope.position, int):
                partition = partition_of(envelope.subject)
                positions[partition] = max(positions.get(partition, 0), envelope.position)
        return Cursor(positions)

    def __str__(self) -> str:
        raw = msgspec.json.encode({str(p): self.positions[p] for p in sorted(self.positions)})
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Parse the text of a cursor.

        Raises InvalidCursor.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            positions = _positions.decode(raw)
        except (binascii.Error, ValueError) as error:
            raise InvalidCursor(f"not a cursor: {text[:80]!r}") from error
        if any(not 0 <= p < PARTITIONS or position < 0 for p, position in positions.items()):
            raise InvalidCursor("the cursor names an impossible partition or position")
        return cls(positions)
