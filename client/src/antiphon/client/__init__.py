"""A client of Antiphon's HTTP API, sync and async."""
