"""Doubles that behave like AWS, faults included, for our tests and those of our users."""
