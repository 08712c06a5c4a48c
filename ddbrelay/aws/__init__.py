"""The only place that talks to AWS: sessions, the signed asyncio transport, error translation."""
