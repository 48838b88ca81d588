"""Check the rows of one partition, in order: both hash chains, sequences, and columns against envelopes."""

from collections.abc import Iterable

from antiphon.contracts.envelope import decode
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.verify.chain import NO_HASH, aware, event_digest, link, start_of
from antiphon.persistence.verify.difference import Difference, Kind, LogReport
from antiphon.persistence.verify.heads import Head
from antiphon.persistence.verify.log_rows import Checkpoint, Row, Start

_COLUMNS = ("session_id", "tenant", "event_id", "type", "version", "occurred_at")


class PartitionCheck:
    """The check of one partition, from a place up to its checkpoint; differences go to the report."""

    def __init__(self, end: Checkpoint, start: Start, report: LogReport, anchor: Head | None = None) -> None:
        self._end = end
        self._report = report
        self._anchor = anchor
        self._whole = start == Start()
        self._follows = report.tenant is None  # rows of one tenant are not consecutive
        self._chain = start.chain
        if self._chain is None and end.chained_after is not None:
            self._chain = start_of(end.partition, end.chained_after)
        self._last = start.position
        self._events = 0
        self._broken = False  # the count does not tell anything new then
        self._complete = self._chain is not None and self._chain == end.chain

    def check(self, rows: Iterable[Row]) -> None:
        """Check the next rows."""
        for row in rows:
            if self._anchor is not None and row.position > self._anchor.position:
                self._compare_with_anchor()
            if row.envelope is None:
                self._check_erased(row)
            else:
                self._check_event(row, row.envelope)
            self._last = row.position

    def finish(self) -> None:
        """Compare the end of the chain with the checkpoint, after the last row."""
        self._compare_with_anchor()
        end = self._end
        if not self._follows or end.chained_after is None:
            if self._follows and (end.chain is not None or end.chained):
                self._differs("checkpoint", "the checkpoint has a chain, but not where it began")
            return
        if not self._complete:
            missing = end.chained - self._events
            text = "the chain does not end as its checkpoint says"
            if self._whole and missing > 0:
                text += f"; missing: {missing} of {end.chained} events"
                text += "" if self._broken else f", after position {self._last}"
            self._differs("checkpoint", text, end.position, "chain", _hex(end.chain), _hex(self._chain))
        elif self._whole and not self._broken and self._events != end.chained:
            text = "the checkpoint does not count the events of its chain"
            self._differs("checkpoint", text, end.position, "chained", str(self._events), str(end.chained))

    def _check_erased(self, row: Row) -> None:
        self._report.erased += 1
        if row.erased_through is None or row.sequence > row.erased_through:
            self._row_differs(
                row,
                "erased",
                "it is kept as erased, but its session was not erased that far",
                "last_sequence",
                f"{row.sequence} or more",
                _text(row.erased_through),
            )
        if row.hash is not None:
            self._continue(row, row.hash)

    def _check_event(self, row: Row, envelope: str) -> None:
        before = self._hash_before(row)
        chained_after = self._end.chained_after
        if chained_after is None or row.position <= chained_after:
            self._report.uncovered += 1
            if row.hash is not None or row.chain is not None:
                self._row_differs(
                    row, "uncovered", "it has a hash, but is from before the chain of its partition"
                )
        elif row.hash is None or row.committed_at is None:
            self._row_differs(
                row, "uncovered", "it has no hash, but the chain of its partition covers it", "hash"
            )
            self._continue(row, row.hash or NO_HASH)
        else:
            self._report.verified += 1
            if before is not None:
                self._check_hash(row, envelope, before, row.hash)
            self._continue(row, row.hash)
        self._check_columns(row, envelope)

    def _hash_before(self, row: Row) -> bytes | None:
        """Return what the hash of an event continues, or None if what comes before it is missing."""
        erased = row.erased_through or 0
        if row.sequence <= erased:
            self._row_differs(
                row, "erased", f"its session was erased up to sequence {erased}, but it is in the log"
            )
            return None
        if row.sequence == erased + 1:
            return row.previous_hash or NO_HASH
        if row.previous_position is None:
            before = f"sequence {row.sequence - 1} in the log" if row.sequence > 0 else "sequences from 1 on"
            self._row_differs(
                row,
                "sequence",
                "the event before it in its session is missing",
                "sequence",
                before,
                None if row.sequence > 0 else str(row.sequence),
            )
            return None
        if row.previous_position >= row.position:
            self._row_differs(
                row,
                "order",
                "its session's events are not in the order of their positions",
                "position",
                f"more than {row.previous_position}, that of sequence {row.sequence - 1}",
                str(row.position),
            )
        return row.previous_hash or NO_HASH

    def _check_hash(self, row: Row, envelope: str, before: bytes, stored: bytes) -> None:
        digest = event_digest(
            row.sequence,
            row.position,
            row.partition,
            row.version,
            row.occurred_at,
            row.committed_at,
            row.session_id,
            row.tenant,
            row.event_id,
            row.type,
            envelope,
        )
        if (found := link(before, digest)) != stored:
            self._row_differs(
                row,
                "hash",
                "the event, its hash, or the hash of the event before it in its session was changed",
                "hash",
                _hex(stored),
                _hex(found),
            )

    def _continue(self, row: Row, entry: bytes) -> None:
        """Continue the partition's chain; after a difference go on from what is stored."""
        if not self._follows:
            return
        if self._complete:
            self._row_differs(
                row, "chain", f"it was inserted: the chain of its partition ends at position {self._last}"
            )
            self._broken = True
            return
        self._events += 1
        found = link(self._chain or NO_HASH, entry)
        if row.envelope is not None and row.chain != found:
            self._row_differs(
                row,
                "chain",
                f"it does not continue the chain of its partition from position {self._last}: events were "
                "removed, inserted, exchanged or changed there",
                "chain",
                _hex(row.chain),
                _hex(found),
            )
            self._broken = True
            found = row.chain or found
        self._chain = found
        self._complete = found == self._end.chain

    def _check_columns(self, row: Row, text: str) -> None:
        if row.partition != (partition := partition_of(row.session_id)):
            self._row_differs(
                row,
                "column",
                "it is in a partition that its session does not belong to",
                "partition",
                str(partition),
                str(row.partition),
            )
        try:
            envelope = decode(text)
        except MalformedEvent as error:
            self._row_differs(
                row, "column", "its envelope cannot be read", "envelope", "a valid envelope", str(error)
            )
            return
        found = (row.session_id, row.tenant, row.event_id, row.type, row.version, aware(row.occurred_at))
        expected = (
            envelope.subject,
            envelope.tenant,
            envelope.id,
            envelope.type,
            envelope.version,
            envelope.time,
        )
        if found == expected:
            return
        for column, is_there, should_be in zip(_COLUMNS, found, expected, strict=True):
            if is_there != should_be:
                text = "a column does not agree with the envelope"
                self._row_differs(row, "column", text, column, str(should_be), str(is_there))

    def _compare_with_anchor(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is None or anchor.chain is None:
            return
        if self._end.position < anchor.position:
            text = f"the log ends at position {self._end.position}, before the head that was kept elsewhere"
            self._differs("anchor", text, anchor.position)
        elif anchor.chain != (found := _hex(self._chain)):
            text = "up to here the log is not the one whose head was kept elsewhere"
            self._differs("anchor", text, anchor.position, "chain", anchor.chain, found)

    def _row_differs(
        self,
        row: Row,
        kind: Kind,
        text: str,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self._report.add(
            Difference(
                kind,
                text,
                self._end.partition,
                row.position,
                row.session_id,
                row.sequence,
                field,
                expected,
                found,
            )
        )

    def _differs(
        self,
        kind: Kind,
        text: str,
        position: int | None = None,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        self._report.add(
            Difference(kind, text, self._end.partition, position, field=field, expected=expected, found=found)
        )


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _text(value: object) -> str | None:
    return None if value is None else str(value)
