"""A tiny contract, canaries and logs of a server, written row by row."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aot.drift.look import Wanted, take_look
from aot.drift.records import WatchFile
from aot.records import Question
from aot.served_records import Canary, Sight, StudentContract

NOW_S = 1_800_000_000.0
CONTRACT = StudentContract(
    name="sums", arm="a", base="b", base_digest="0", config_digest="0", model_type="llama", dtype="float32",
    template_hash="0" * 16, kinds=("sum",), modes=("direct",), max_tokens=64, max_answer_tokens=8,
    max_rationale_tokens=8,
)  # fmt: skip


def canary(i: int, *, right: bool = True) -> Canary:
    question = Question(
        id=f"c{i}", dataset="d", split="canaries", kind="sum", text=f"What is {i} + 1?", answer=str(i + 1),
        answer_type="integer", group=f"c{i}",
    )  # fmt: skip
    return Canary(question=question, answer=str(i + 1) if right else "0", right=right,
                  student_digest=CONTRACT.student_digest())  # fmt: skip


def served(i: int, **fields: Any) -> dict[str, Any]:
    """A row as a server records it."""
    row = {"id": f"r{i}", "time_s": NOW_S - 1e6 + 60 * i, "question_sha256": f"{i:064x}", "confidence": 0.9,
           "abstained": "", "finish": "stop", "status": 200, "contract_digest": CONTRACT.digest()}  # fmt: skip
    return {**row, **fields}


def asked(one: Canary, *, time_s: float, right: bool = True) -> dict[str, Any]:
    """The row of a canary that went through the server."""
    answer = one.question.answer if right else "-1"
    return {"id": f"{one.question.id}@{time_s}", "question": one.question.text, "answer": answer, "time_s": time_s,
            "contract_digest": CONTRACT.digest()}  # fmt: skip


def write(path: Path, rows: Iterable[Mapping[str, Any] | str], *, append: bool = False) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    with path.open("a" if append else "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def look(
    log: Path, canaries: list[Canary] | None = None, *, contract: StudentContract = CONTRACT, **wanted: Any
) -> tuple[Sight, WatchFile]:
    state = log.with_name("state.json")
    return take_look(contract, [log], canaries or [], state, Wanted(**{"now_s": NOW_S, **wanted}))
