"""The envelope of every event: CloudEvents 1.0 in JSON, with extensions for order and tracing."""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.event import Event
from antiphon.contracts.ids import SessionId, Tenant

SCHEMA_BASE = "https://antiphon.dev/schemas"

NonEmpty = Annotated[str, Meta(min_length=1, max_length=256)]


class Envelope(Struct, frozen=True, kw_only=True):
    """One event with its CloudEvents attributes; `data` is the body, described by `dataschema`.

    `time` is when the event occurred, with microseconds. `sequence` (dense per session) and
    `position` (in the stream) are set once the event is committed.
    """

    specversion: Literal["1.0"] = "1.0"
    id: NonEmpty
    source: NonEmpty
    type: NonEmpty
    subject: SessionId
    time: Annotated[datetime, Meta(tz=True)]
    dataschema: NonEmpty
    data: Raw  # decoded by open_event
    tenant: Tenant
    producer: NonEmpty
    producerseq: Annotated[int, Meta(ge=0)]
    traceparent: str | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    position: int | UnsetType = UNSET

    @property
    def version(self) -> int:
        """Return the schema version of the event; 0 when `dataschema` has none."""
        return _version_of(self.dataschema)


@lru_cache(maxsize=512)  # there are about a hundred; the others come from strangers
def _version_of(dataschema: str) -> int:
    tail = dataschema.rpartition("/")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def seal(
    event: Event,
    *,
    id: str,  # noqa: A002 - the attribute name in CloudEvents
    session_id: str,
    tenant: str,
    producer: str,
    producerseq: int,
    time: datetime,
    traceparent: str | None = None,
) -> Envelope:
    """Return the envelope of an event; a lone surrogate, which UTF-8 cannot encode, becomes U+FFFD."""
    try:
        data = _encoder.encode(event)
    except UnicodeEncodeError:
        data = _encoder.encode(_without_surrogates(msgspec.to_builtins(event)))
    return Envelope(
        id=id,
        source=f"/{producer}",
        type=event.TYPE,
        subject=session_id,
        time=time,
        dataschema=f"{SCHEMA_BASE}/{event.TYPE}/{event.VERSION}",
        data=Raw(data),
        tenant=tenant,
        producer=producer,
        producerseq=producerseq,
        traceparent=traceparent or UNSET,
    )


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(inner) for inner in value]
    return value


class _Unsealed(Struct, frozen=True, gc=False):
    # an envelope whose body is not encoded yet; the fields have the order of Envelope's
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    dataschema: str
    data: Event
    tenant: str
    producer: str
    producerseq: int
    traceparent: str | UnsetType


_types: dict[type[Event], tuple[str, str]] = {}  # and their `dataschema`


def seal_encoded(
    event: Event,
    *,
    id: str,  # noqa: A002 - the attribute name in CloudEvents
    session_id: str,
    tenant: str,
    producer: str,
    producerseq: int,
    time: datetime,
    traceparent: str | None = None,
) -> bytes:
    """Return `encode(seal(…))` in half the time, for those who do not need the envelope."""
    kind = type(event)
    known = _types.get(kind)
    if known is None:
        known = _types[kind] = (kind.TYPE, f"{SCHEMA_BASE}/{kind.TYPE}/{kind.VERSION}")
    event_type, dataschema = known
    trace = traceparent or UNSET
    source = f"/{producer}"
    unsealed = _Unsealed(
        "1.0",
        id,
        source,
        event_type,
        session_id,
        time,
        dataschema,
        event,
        tenant,
        producer,
        producerseq,
        trace,
    )
    try:
        return _encoder.encode(unsealed)
    except UnicodeEncodeError:  # a lone surrogate, which `seal` replaces
        sealed = seal(
            event,
            id=id,
            session_id=session_id,
            tenant=tenant,
            producer=producer,
            producerseq=producerseq,
            time=time,
            traceparent=traceparent,
        )
        return _encoder.encode(sealed)


def committed(envelope: Envelope, sequence: int, position: int) -> Envelope:
    """Return the envelope with the sequence and position assigned at commit."""
    return msgspec.structs.replace(envelope, sequence=sequence, position=position)


def encode(envelope: Envelope) -> bytes:
    """Encode an envelope as JSON."""
    return _encoder.encode(envelope)


def decode(raw: bytes | str) -> Envelope:
    """Decode an envelope from JSON; its `data` stays raw.

    Raises MalformedEvent.
    """
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEvent(str(error)) from error


def decode_committed(raw: bytes | str, sequence: int, position: int) -> Envelope:
    """Return `committed(decode(raw), …)` in two thirds of the time: the envelope is set before anyone has it.

    Raises MalformedEvent.
    """
    envelope = decode(raw)
    msgspec.structs.force_setattr(envelope, "sequence", sequence)
    msgspec.structs.force_setattr(envelope, "position", position)
    return envelope
