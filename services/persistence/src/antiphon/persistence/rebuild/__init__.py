"""Build views again from the log, beside the live ones, and take them into use in one transaction."""
