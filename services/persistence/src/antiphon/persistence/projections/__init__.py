"""The projections, each the fold of the event log into one view."""

from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS

PROJECTIONS = (SESSIONS, TURNS)
