"""One conformance suite per port, for every implementation and every double.

Subclass a suite in a test module, under a name that pytest collects, and give it a fixture called
`harness`:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def harness(self, tmp_path): ...

A harness lacks features where the thing behind the port cannot do better (an emulator that closes
no shard); the tests of those are skipped, with the reason.
"""

from ddbrelay.testing.contracts.harness import (
    Feature,
    SinkHarness,
    StoreHarness,
    StreamHarness,
)
from ddbrelay.testing.contracts.sink import SinkContract
from ddbrelay.testing.contracts.source import StreamSourceContract
from ddbrelay.testing.contracts.store import StoreContract

__all__ = [
    "Feature",
    "SinkContract",
    "SinkHarness",
    "StoreContract",
    "StoreHarness",
    "StreamHarness",
    "StreamSourceContract",
]
