"""What a look leaves for others: a page and figures, in which nothing of a stranger's text does harm."""

from pathlib import Path

import pytest
from drift_kit import NOW_S, asked, canary, look, served, write

from aot.drift.metrics import metric_lines, write_metrics
from aot.drift.page import write_page


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    canaries = [canary(i) for i in range(4)]
    rows = [
        served(
            i * 400,
            confidence=0.9 - 0.001 * i,
            contract_digest="<script>x" if i % 5 == 0 else served(0)["contract_digest"],
        )
        for i in range(40)
    ]
    rows += [asked(canaries[0], time_s=NOW_S - 900 + i, right=False) for i in range(3)]
    sight, state = look(write(tmp_path / "log.jsonl", [*rows, '{"<b>": 1}']), canaries)
    assert [one.test for one in sight.alarms] == ["canaries_lost"]
    write_metrics(tmp_path / "watch.prom", sight, state, name='a"b')
    write_page(tmp_path / "watch.html", sight, state, name="<i>kitchen")
    return tmp_path


def test_the_page_shows_alarm_timeline_and_odd_rows_and_loads_nothing(seen: Path) -> None:
    page = (seen / "watch.html").read_text()
    assert "ALARM canaries_lost" in page and "Check the pipeline first" in page and "other_version" in page
    assert page.count("<svg") > 3 and "began" in page
    assert "<script" not in page and "<i>" not in page and "<b>:" not in page and "default-src 'none'" in page


def test_figures_are_in_the_text_format_of_prometheus(seen: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    families = {one.name: one for one in parser.text_string_to_metric_families((seen / "watch.prom").read_text())}
    alarms = {sample.labels["test"]: sample.value for sample in families["aot_watch_alarm"].samples}
    assert alarms["canaries_lost"] == 1 and families["aot_watch_alarm"].samples[0].labels["student"] == 'a"b'
    lost = [one.value for one in families["aot_watch_canaries"].samples if one.labels["which"] == "lost"]
    assert lost == [1] and metric_lines is not None
