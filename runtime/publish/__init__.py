"""Publishing: results as messages to a broker, through a spool that outlasts outages."""

from __future__ import annotations

from feredge.runtime.publish.options import PublishOptions
from feredge.runtime.publish.publisher import Publisher

__all__ = ["PublishOptions", "Publisher"]
