"""A supervisor with real servers and small HTTP servers as services; one can be broken by a file."""

import sys
from pathlib import Path

from antiphon.chassis.settings import load
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.nats_users import Login
from antiphon.cli.stack.process import Command
from antiphon.cli.supervisor.__main__ import default_plan, run
from antiphon.cli.supervisor.plan import Plan

SERVER = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
BROKEN = "import sys; sys.exit('it does not start')"


class StubPlan(Plan):
    """The real plan, with other programs for the services."""

    def _command(self, module: tuple[str, ...], extra: dict[str, str], login: Login) -> Command:
        real = super()._command(module, extra, login)
        ports = {
            "antiphon.persistence": self.settings.persistence_health_port,
            "antiphon.session_api": self.settings.api_port,
            "antiphon.webhook_ingest": self.settings.webhooks_port,
            "antiphon.agent_worker": self.settings.agent_health_port,
        }
        broken = (self.settings.home / "break").exists() and module[0] == "antiphon.session_api"
        program = BROKEN if broken else SERVER
        if {"migrate", "roles", "publish-flows"} & set(module):
            program = "print('done')"
        if "recreate" in module:
            program = f"print({' '.join(module)!r})"
        argv = (sys.executable, "-c", program, str(ports[module[0]]))
        return Command(argv, real.environment, Path(real.directory))


def stub_plan(settings: StackSettings) -> Plan:
    real = default_plan(settings)
    return StubPlan(settings, real.credentials, real.livekit.program if real.livekit else None)


if __name__ == "__main__":
    sys.exit(run(load(StackSettings), stub_plan))
