"""Run session-api: `python -m session_api`."""

from chassis.process import run
from chassis.settings import load
from session_api.main import serve
from session_api.settings import ApiSettings

if __name__ == "__main__":
    settings = load(ApiSettings)
    run(lambda stop: serve(settings, stop))
