"""Run webhook-ingest: `python -m webhook_ingest`."""

from chassis.process import run
from chassis.settings import load
from webhook_ingest.main import serve
from webhook_ingest.settings import WebhookSettings

if __name__ == "__main__":
    settings = load(WebhookSettings)
    run(lambda stop: serve(settings, stop))
