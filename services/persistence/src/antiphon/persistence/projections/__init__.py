"""The views, each a fold of the log."""

from antiphon.persistence.projections.sessions import SESSIONS
from antiphon.persistence.projections.turns import TURNS

PROJECTIONS = (SESSIONS, TURNS)
