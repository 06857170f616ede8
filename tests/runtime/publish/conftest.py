"""Fixtures of this folder stand in a module that child processes import, too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from real_broker import mosquitto, subscriber  # noqa: F401
