"""Run session-api: `python -m antiphon.session_api`."""

from antiphon.chassis.process import run
from antiphon.chassis.settings import load
from antiphon.session_api.main import serve
from antiphon.session_api.settings import ApiSettings

if __name__ == "__main__":
    settings = load(ApiSettings)
    run(lambda stop: serve(settings, stop))
