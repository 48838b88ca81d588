"""The fleet service: counts the calls of all agent workers, for autoscaling."""
