"""HTTP services: problems, the middleware of every request, and a server with limits."""
