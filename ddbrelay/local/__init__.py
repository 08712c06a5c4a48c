"""The embedded AWS: no account, no Docker, 127.0.0.1 only."""
