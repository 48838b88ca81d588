"""Exports of the event log as files: what `antiphon export` writes, and how it goes on after a crash."""
