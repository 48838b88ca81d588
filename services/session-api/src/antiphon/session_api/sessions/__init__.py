"""Sessions: create, join, end, look up and follow."""
