"""How numbers are written for people: a share never without its interval and n."""

from aot.records import Interval, MetricRow
from aot.run_records import Share

_NAMES = {"pass_at_1": "pass@1", "pass_at_k": "pass@k", "iou": "IoU", "ece": "ECE", "ms": "ms", "s": "s"}


def percent(row: MetricRow | Interval | Share) -> str:
    """A share with interval and n.

    >>> row = MetricRow(arm="a", mode="direct", split="test", kind="all", metric="accuracy", value=0.875, low=0.821,
    ...                 high=0.916, n=160)
    >>> percent(row)
    '87.5% [82.1, 91.6] n=160'
    """
    if row.value is None:
        return "nothing to divide by"
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}] n={row.n}"


def cut_share(row: MetricRow | None) -> str:
    """The share of replies that a cap cut off, as it stands beside an accuracy; empty where nobody knows.

    >>> cut_share(MetricRow(arm="a", mode="direct", split="test", kind="all", metric="truncated_rate", value=0.25,
    ...                     low=0.1, high=0.4, n=16))
    ', 25.0% cut off'
    """
    return "" if row is None else f", {100 * row.value:.1f}% cut off"


def points(row: MetricRow) -> str:
    """A difference of two shares in percentage points, with its interval and n."""
    value, low, high = (round(100 * x, 1) + 0.0 for x in (row.value, row.low, row.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] points, n={row.n}"


def plain(row: MetricRow) -> str:
    """A quantity that is no share."""
    return f"{_figures(row.value)} [{_figures(row.low)}, {_figures(row.high)}] n={row.n}"


def short(value: object) -> str:
    """Any scalar of a statistics file in a few characters.

    >>> short(0.123456), short(12), short(True), short(None)
    ('0.123', '12', 'yes', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _figures(value)
    return str(value)


def _figures(value: float) -> str:
    """Three significant digits, or all before the point.

    >>> _figures(8391.7), _figures(0.02345)
    ('8,392', '0.0234')
    """
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def title(name: str) -> str:
    """A field name as a heading.

    >>> title("pass_at_1"), title("seconds_per_trace")
    ('pass@1', 'seconds per trace')
    """
    return _NAMES.get(name, " ".join(_NAMES.get(word, word) for word in name.split("_")))


def clip_text(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, saying how much is left out.

    >>> clip_text("abcdef", 4)
    'abcd… (2 more)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"
