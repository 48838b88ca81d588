"""The projections, each the fold of the event log into one view."""

from antiphon.persistence.projection import Projection
from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS

PROJECTIONS: tuple[Projection, ...] = (SESSIONS, TURNS)
