"""Sessions: made, joined, ended, looked at and followed."""
