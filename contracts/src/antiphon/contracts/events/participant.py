"""Events of the participants in a room."""

from typing import Annotated, ClassVar

from msgspec import Meta

from antiphon.contracts.event import Event, Family, PersonalText

PersonalAttributes = Annotated[dict[str, str], Meta(extra_json_schema={"x-pii": True})]


class ParticipantConnected(Event, frozen=True, kw_only=True):
    """A participant joined the room."""

    TYPE: ClassVar[str] = "participant_connected"
    FAMILY: ClassVar[Family] = Family.PARTICIPANT

    identity: PersonalText
    sid: str
    kind: str
    name: PersonalText | None = None
    metadata: PersonalText | None = None
    attributes: PersonalAttributes = {}


class ParticipantDisconnected(Event, frozen=True, kw_only=True):
    """A participant left the room."""

    TYPE: ClassVar[str] = "participant_disconnected"
    FAMILY: ClassVar[Family] = Family.PARTICIPANT

    identity: PersonalText
    sid: str
    kind: str
    reason: str | None = None


class ParticipantMetadataChanged(Event, frozen=True, kw_only=True):
    """A participant's metadata changed."""

    TYPE: ClassVar[str] = "participant_metadata_changed"
    FAMILY: ClassVar[Family] = Family.PARTICIPANT

    identity: PersonalText
    sid: str
    old_metadata: PersonalText
    metadata: PersonalText


class ParticipantNameChanged(Event, frozen=True, kw_only=True):
    """A participant's name changed."""

    TYPE: ClassVar[str] = "participant_name_changed"
    FAMILY: ClassVar[Family] = Family.PARTICIPANT

    identity: PersonalText
    sid: str
    old_name: PersonalText
    name: PersonalText


class ParticipantAttributesChanged(Event, frozen=True, kw_only=True):
    """A participant's attributes changed; only the changed ones are included."""

    TYPE: ClassVar[str] = "participant_attributes_changed"
    FAMILY: ClassVar[Family] = Family.PARTICIPANT

    identity: PersonalText
    sid: str
    changed: PersonalAttributes
