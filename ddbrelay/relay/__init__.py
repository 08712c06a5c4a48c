"""The engine: the only place with concurrency."""

from ddbrelay.relay.engine import Relay
from ddbrelay.relay.outcome import Observer, Options, Outcome, Progress

__all__ = ["Observer", "Options", "Outcome", "Progress", "Relay"]
