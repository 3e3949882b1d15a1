from collections.abc import Callable
from pathlib import Path

import pytest
from report_run import build_run

from aot.config import RunConfig
from aot.files.run_folder import RunFolder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., tuple[RunFolder, RunConfig]]:
    def make(**options: object) -> tuple[RunFolder, RunConfig]:
        return build_run(tmp_path / "run", **options)  # type: ignore[arg-type]

    return make
