"""What tests of the student at work share."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aot.config import StudentConfig
from aot.served_records import FrameRule, StudentContract
from aot.serving.export.arm import write_export
from aot.serving.server.listening import open_port, server_of
from aot.serving.server.served import Served
from aot.student.model.loading import Student

ROOT = Path(__file__).parents[2]


def python_blocks(page: str, *, section: str = "") -> list[str]:
    """The Python in a page of docs/, or in its section under this heading, block by block."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_block(block: str, **names: Any) -> dict[str, Any]:
    """The names that there are after a block of Python has run, to which these were known before."""
    exec(compile(block, "docs", "exec"), names)
    return names


def export_base(base: str, out: Path, **changes: object) -> Path:
    """An embedded base as an exported folder, with changes to its contract."""
    from aot.student.model.loading import load_student

    return export_student(load_student(base, config=StudentConfig(base=base, device="cpu")), base, out, **changes)


def export_student(student: Student, base: str, out: Path, **changes: object) -> Path:
    """A loaded student as an exported folder, with changes to its contract; unproved."""
    sees = student.renderer.takes_images
    contract = StudentContract(
        name=base,
        arm="base",
        base=base,
        base_digest=student.base_digest,
        config_digest="0" * 12,
        model_type=student.model_type,
        dtype="float32",
        template_hash=student.renderer.template_hash(),
        template_date=student.renderer.date,
        frames=FrameRule(num_frames=8, stored_fps=3.0, max_side_px=480) if sees else None,
        kinds=("next_choice",) if sees else ("sum",),
        modes=("direct", "reason"),
        max_tokens=2048 if sees else 512,
        max_answer_tokens=24,
        max_rationale_tokens=160,
    )
    write_export(student, contract.model_copy(update=changes), out)
    return out


@contextmanager
def running(served: Served, *, key: object = None) -> Iterator[str]:
    """A server in a thread of this process; gives the address of its API, which ends in /v1."""
    listener = open_port("127.0.0.1", 0, key=key)  # type: ignore[arg-type]
    port = listener.getsockname()[1]
    server = server_of(served, key=key)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="test-server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()
