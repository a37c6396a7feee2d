"""The table of benchmarks: bounds and medians, rows by name, and a short run with real servers."""

import json
import subprocess
import sys

import pytest

from benchmarks import rows, servers, table
from benchmarks.rows import Row, Sample


def row(*, must, aim):
    return Row("some", "Some", "rps", "other", must, aim, at_least=aim > must, measure=lambda bench: Sample(1))


@pytest.mark.parametrize(
    "must, aim, ratio, verdict",
    [
        (2, 4, 1.9, "missed"),
        (2, 4, 2, "ok"),
        (2, 4, 4, "aim"),
        (4, 2, 4.1, "missed"),
        (4, 2, 4, "ok"),
        (4, 2, 2, "aim"),
    ],
)
def test_a_ratio_is_held_to_both_bounds(must, aim, ratio, verdict):
    assert row(must=must, aim=aim).verdict(ratio) == verdict


def test_medians_of_both_sides_are_compared():
    """Not the median of the ratios, which one bad round of either side would move."""
    samples = [Sample(10, 5, cpu=100), Sample(30, 6, cpu=300), Sample(20, 1, cpu=200)]
    result = row(must=2, aim=4).result(samples)
    assert (result["product"], result["other"], result["ratio"], result["verdict"]) == (20, 5, 4, "aim")
    assert (result["cpu_us"], result["p99_ms"], result["rounds"]) == (200, None, 3)


def test_rows_are_chosen_by_name_or_by_how_names_begin():
    chosen = [one.name for one in rows.chosen("get,grow-*", table.ROWS)]
    assert chosen[0] == "get" and len(chosen) > 10 and all(name.startswith("grow-") for name in chosen[1:])
    assert len(list(rows.chosen("*", table.ROWS))) == len(table.ROWS)
    with pytest.raises(SystemExit, match="no row nothing"):
        list(rows.chosen("nothing", table.ROWS))


def test_a_short_run_measures_what_it_can_and_says_what_it_cannot(tmp_path):
    """One row through gunicorn; the load generator is said to be missing."""
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.table", "--rows", "http,query", "--seconds", "0.2", "--rounds", "1"]
    run = subprocess.run(
        [*command, "--tool", str(tmp_path / "none.py"), "--json", str(out)],
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(out.read_text())
    (one,) = results["rows"]
    assert one["row"] == "http" and one["product"] > 0 and one["other"] > 0
    assert "no load generator" in results["not measured"]["query"]
    assert "POST /kmip through gunicorn" in run.stdout and "not measured: there is no load generator" in run.stdout
