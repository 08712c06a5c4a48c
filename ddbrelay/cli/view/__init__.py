"""The live view of a run; this module itself is light to import."""

from __future__ import annotations

from ddbrelay.cli.view.words import alarm, duration, short_shard, whole

__all__ = ["alarm", "duration", "short_shard", "whole"]
