"""Run `python -m antiphon.persistence`."""

from antiphon.persistence.cli import app

app(prog_name="python -m antiphon.persistence")
