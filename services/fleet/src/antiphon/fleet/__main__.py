"""Run the fleet service: `python -m antiphon.fleet`."""

import gc

if __name__ == "__main__":
    gc.disable()  # imports make many objects and no garbage; `run` enables it
    from antiphon.chassis.process import refuse_arguments, run
    from antiphon.chassis.settings import load
    from antiphon.fleet.main import serve
    from antiphon.fleet.settings import FleetSettings

    refuse_arguments("antiphon.fleet")
    settings = load(FleetSettings)
    run(lambda stop: serve(settings, stop))
