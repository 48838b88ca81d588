"""Verify the event log by its hash chains, and the views by the fold of the log."""
