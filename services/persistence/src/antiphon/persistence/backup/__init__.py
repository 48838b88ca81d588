"""Backup and restore: a dump of Postgres, the buckets, and what the stream has and the log has not."""
