"""The command line: one file per command, thin; the only place for click and rich."""
