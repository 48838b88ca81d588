"""Run session-api: `python -m antiphon.session_api`."""

import gc

if __name__ == "__main__":
    gc.disable()  # imports make many objects and no garbage; `run` enables it
    from antiphon.chassis.process import refuse_arguments, run
    from antiphon.chassis.settings import load
    from antiphon.session_api.main import serve
    from antiphon.session_api.settings import ApiSettings

    refuse_arguments("antiphon.session_api")
    settings = load(ApiSettings)
    run(lambda stop: serve(settings, stop))
