"""The service that puts LiveKit's webhooks on the log."""
