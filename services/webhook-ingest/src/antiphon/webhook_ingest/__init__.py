"""LiveKit webhooks to events."""
