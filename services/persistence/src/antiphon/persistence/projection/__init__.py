"""The engine of the projections: how a view is declared, folded from events, written, and kept up to date."""

from antiphon.persistence.projection.declaration import Projection
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projection.tables import Row, ViewTable, views
from antiphon.persistence.schema import Document, Instant, Name, required

__all__ = ["Document", "Instant", "Name", "Projection", "Row", "Rows", "ViewTable", "required", "views"]
