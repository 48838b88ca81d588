"""Events without their personal fields: those that the schemas mark `x-pii`."""

import types
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Raw, Struct

from antiphon.contracts.envelope import SCHEMA_BASE, Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.registry import BY_TYPE, EVENTS, decode_body

NO_BODY = Raw(b"{}")
_UNIONS = (Union, types.UnionType)

_encoder = msgspec.json.Encoder()


@cache
def impersonal_type(kind: type[Struct]) -> type[Struct]:
    """Return a struct with the fields of another that are not personal, also in the structs within it.

    It decodes what the other decodes; a field that it does not have is ignored.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        annotation = _impersonal(field.type)
        if annotation is None:
            continue
        if field.default is not NODEFAULT:
            fields.append((field.name, annotation, field.default))
        elif field.default_factory is not NODEFAULT:
            fields.append((field.name, annotation, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, annotation))
    return msgspec.defstruct(
        kind.__name__, fields, frozen=True, kw_only=True, module=__name__, namespace={"__doc__": kind.__doc__}
    )


def _impersonal(annotation: Any) -> Any:
    """Return an annotation without personal fields; None if all of it is personal."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *notes = arguments
        if any(_marked(note) for note in notes):
            return None
        kept = _impersonal(inner)
        return None if kept is None else Annotated.__class_getitem__((kept, *notes))
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return impersonal_type(annotation)
    if origin in _UNIONS:
        options = [_impersonal(option) for option in arguments]
        return None if None in options else Union[tuple(options)]  # noqa: UP007 - made of a list
    if origin in (list, dict):
        members = [_impersonal(argument) for argument in arguments]
        return None if None in members else origin[tuple(members)]
    return annotation


def _marked(note: Any) -> bool:
    return isinstance(note, Meta) and bool((note.extra_json_schema or {}).get("x-pii"))


@cache
def _decoders() -> "dict[str, msgspec.json.Decoder[Struct]]":
    return {event.TYPE: msgspec.json.Decoder(impersonal_type(event)) for event in EVENTS}


def open_impersonal(envelope: Envelope) -> Struct:
    """Decode the body of an envelope without its personal fields; one of an older version is upcast.

    Raises MalformedEvent, UnknownEventType, UnsupportedEventVersion.
    """
    return decode_body(envelope, _decoders())


def without_pii(envelope: Envelope) -> Envelope:
    """Return the envelope of an event without its personal fields, in the newest version of its type.

    Nothing is known about the body of an unknown type or a newer version, nor about a malformed one: it
    becomes an empty object.
    """
    try:
        body = open_impersonal(envelope)
        data = Raw(_encoder.encode(body))
        dataschema = f"{SCHEMA_BASE}/{envelope.type}/{BY_TYPE[envelope.type].VERSION}"
    except ContractError:
        data, dataschema = NO_BODY, envelope.dataschema
    return msgspec.structs.replace(envelope, data=data, dataschema=dataschema)
