"""Figures of many sessions, and the timeline of one, from the views that persistence keeps."""
