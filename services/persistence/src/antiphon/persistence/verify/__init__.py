"""Verify the event log by its hash chains."""
