"""The HTTP service: create, inspect, subscribe to and end sessions."""
