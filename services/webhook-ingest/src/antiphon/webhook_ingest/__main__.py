"""Run webhook-ingest: `python -m antiphon.webhook_ingest`."""

from antiphon.chassis.process import run
from antiphon.chassis.settings import load
from antiphon.webhook_ingest.main import serve
from antiphon.webhook_ingest.settings import WebhookSettings

if __name__ == "__main__":
    settings = load(WebhookSettings)
    run(lambda stop: serve(settings, stop))
