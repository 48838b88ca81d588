"""The journal in a process of its own, without LiveKit, which takes seconds to import."""

from pathlib import Path

from antiphon import recorder

PACKAGE = Path(recorder.__file__).parent

# run with the path of the package as the first argument
WITHOUT_LIVEKIT = """
import sys
from pathlib import Path
from types import ModuleType

package = ModuleType("antiphon.recorder")
package.__path__ = [sys.argv[1]]
sys.modules["antiphon.recorder"] = package
from antiphon.recorder.outbox.journal import Journal
"""
