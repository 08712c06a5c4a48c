"""The script that removes the guards still finds each of them."""

from __future__ import annotations

from pathlib import Path

from guards import GUARDS

ROOT = Path(__file__).parent.parent


def test_every_guard_stands_exactly_once_in_its_file() -> None:
    texts = {guard.file: (ROOT / guard.file).read_text() for guard in GUARDS}
    for guard in GUARDS:
        assert texts[guard.file].count(guard.there) == 1, guard.name
        assert guard.there != guard.gone
        assert (ROOT / guard.tests).exists(), guard.name
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
