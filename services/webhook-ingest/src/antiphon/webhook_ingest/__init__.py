"""The webhook service: publishes LiveKit's webhooks as events."""
