"""Run `python -m antiphon.persistence`."""

import gc

gc.disable()  # imports make many objects and no garbage; a command enables it when it starts its work

from antiphon.persistence.cli import app  # noqa: E402

app(prog_name="python -m antiphon.persistence")
