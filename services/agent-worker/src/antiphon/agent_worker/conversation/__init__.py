"""Conversations with a flow in text, in this process: to try it, and to test it by its own `expect`."""
