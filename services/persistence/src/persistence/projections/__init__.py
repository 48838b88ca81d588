"""The views, each a fold of the log."""

from persistence.projections.sessions import SESSIONS
from persistence.projections.turns import TURNS

PROJECTIONS = (SESSIONS, TURNS)
