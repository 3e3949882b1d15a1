"""An embedded base as an exported folder, for benchmarks and checks that are given no export; tests use the same."""

import sys
from pathlib import Path
from typing import Literal

TESTS = Path(__file__).resolve().parents[1] / "tests" / "serving"


def export_embedded(base: Literal["tiny-video", "tiny-text"], out: Path) -> Path:
    """The base, untrained, as an exported student in the new folder `out`."""
    sys.path.insert(0, str(TESTS))
    from serving_kit import export_base

    return Path(export_base(base, out))
