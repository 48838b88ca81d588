"""API keys: read from the watched bucket, made, rotated, revoked, and when they were last used."""
