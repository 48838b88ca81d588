"""`python -m antiphon.agent_worker run | publish-flows FOLDER`."""

import gc

if __name__ == "__main__":
    gc.disable()  # imports make many objects and no garbage; `run` enables it
    from antiphon.agent_worker.command import main

    main()
