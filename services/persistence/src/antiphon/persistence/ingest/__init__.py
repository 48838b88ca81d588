"""Ingest: from the bus to the event log, one loop per partition."""
