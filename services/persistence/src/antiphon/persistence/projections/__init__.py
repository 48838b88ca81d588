"""The projections, each the fold of the event log into one view."""

from antiphon.persistence.projection import Projection
from antiphon.persistence.projections.daily import DAILY
from antiphon.persistence.projections.participants import PARTICIPANTS
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.timeline import TIMELINE
from antiphon.persistence.projections.tools import TOOLS
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.projections.usage import USAGE

PROJECTIONS: tuple[Projection, ...] = (SESSIONS, TURNS, PARTICIPANTS, TOOLS, USAGE, DAILY, TIMELINE)
