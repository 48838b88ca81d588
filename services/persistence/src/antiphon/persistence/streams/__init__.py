"""What an operator does about the stream of events: look at it, and make it again."""
