"""What `status` shows: ingest, the views, the stream and what is set aside; as JSON, or as a table."""
