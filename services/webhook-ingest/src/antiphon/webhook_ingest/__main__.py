"""Run webhook-ingest: `python -m antiphon.webhook_ingest`."""

import gc

if __name__ == "__main__":
    gc.disable()  # imports make many objects and no garbage; `run` enables it
    from antiphon.chassis.process import refuse_arguments, run
    from antiphon.chassis.settings import load
    from antiphon.webhook_ingest.main import serve
    from antiphon.webhook_ingest.settings import WebhookSettings

    refuse_arguments("antiphon.webhook_ingest")
    settings = load(WebhookSettings)
    run(lambda stop: serve(settings, stop))
