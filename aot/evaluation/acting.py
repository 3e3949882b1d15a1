"""How students use their tools: how often they call any, how often in all, and what was odd about their plans."""

from collections.abc import Iterator

import numpy as np

from aot.evaluation.groups import Cell
from aot.evaluation.intervals import Bootstrap
from aot.records import MetricRow

PLANS = "plans_"
"""Start of the metrics that count plans by a reason of theirs."""


def acting_rows(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """`tool_usage_rate`, `calls_mean` of a question, and `plans_<reason>`, the share of plans with that reason.

    Every question counts, one without a prediction as calling nothing; reasons that no plan has are left out.
    """
    calls = np.array([float(graded.prediction.num_calls) for graded in cell.graded])
    yield cell.share("tool_usage_rate", calls > 0)
    bounds = (0.0, max(1.0, 2 * float(calls.mean())))
    yield cell.row("calls_mean", bootstrap.mean(calls, cell.clusters, bounds=bounds))
    reasons = [graded.prediction.reasons for graded in cell.graded]
    for reason in sorted({reason for plan in reasons for reason in plan}):
        yield cell.share(f"{PLANS}{reason}", np.array([reason in plan for plan in reasons]))
