"""Ingest: from the bus to the event log, one line per partition."""
