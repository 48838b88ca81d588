"""Run `python -m persistence`."""

from persistence.cli import app

app(prog_name="persistence")
