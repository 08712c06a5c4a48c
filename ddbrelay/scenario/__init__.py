"""Scenarios of `ddbrelay expect`: what is written, and which events must come of it."""
