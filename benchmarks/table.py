"""`make bench`: the server beside what it is measured by, row by row, as a table and as JSON.

    python -m benchmarks.table [--rows get,create,grow-*] [--seconds 3] [--rounds 3] [--json FILE]

Load comes over mutual TLS from processes of its own. Rounds are interleaved and medians taken, so that ratios hold on
a machine whose speed changes; CPU per request is the steadier figure. `KMIP_TOOLS` names the folder of the load
generator `kmip_load.py`, which some rows need, and `TEST_POSTGRES_URL` a PostgreSQL server for others; rows that cannot
be measured say why. What takes long to make is kept under `build/bench`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import beside, growth, http, machine, profile, servers
from benchmarks.load import Refused
from benchmarks.rows import Absent, Bench, Row, Sample, chosen, tool_folder

ROWS: dict[str, Row] = {row.name: row for row in (*beside.ROWS, *http.ROWS, *machine.ROWS, *growth.ROWS)}


def measure(bench: Bench, rows: list[Row], rounds: int) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """The samples of each row, and why others have none."""
    samples: dict[str, list[Sample]] = {row.name: [] for row in rows}
    absent: dict[str, str] = {}
    for number in range(rounds):
        for row in rows:
            if row.name in absent or (row.once and number):
                continue
            print(f"round {number + 1} of {rounds}: {row.title}", file=sys.stderr, flush=True)
            try:
                samples[row.name].append(row.measure(bench))
            except (Absent, Refused, OSError) as exc:
                absent[row.name] = str(exc) or type(exc).__name__
    return {name: found for name, found in samples.items() if found and name not in absent}, absent


def profiles(bench: Bench, rows: list[Row], folder: Path) -> list[str]:
    """A table of where the time of each row goes."""
    folder.mkdir(parents=True, exist_ok=True)
    out = ["| row | the server's time by room | functions that take most |", "|---|---|---|"]
    for row in rows:
        if row.on is None:
            continue
        print(f"profile: {row.title}", file=sys.stderr, flush=True)
        try:
            out.append(profile.of(bench, row, folder))
        except (Absent, Refused, OSError) as exc:
            out.append(f"| {row.title} | not sampled: {exc} | |")
    return out


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def lines(found: list[dict[str, Any]], absent: dict[str, str]) -> list[str]:
    """The table, in Markdown."""
    out = [
        "| row | figure | product | beside | | ratio | must | aim | | CPU us/request | requests/s | p99 ms |",
        "|---|---|--:|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    for one in found:
        sign = one["sign"]
        cells = [
            one["title"],
            one["figure"],
            _figure(one["product"]),
            one["against"],
            _figure(one["other"]) if one["against"] else "",
            _figure(one["ratio"]) if one["against"] else "",
            f"{sign} {one['must']:,g}",
            f"{sign} {one['aim']:,g}",
            one["verdict"],
            *(_figure(one[name]) for name in ("cpu_us", "requests_s", "p99_ms")),
        ]
        out.append(f"| {' | '.join(cells)} |")
    out += [f"| {ROWS[name].title} | not measured: {' '.join(why.split())} |" for name, why in absent.items()]
    return out


def main() -> None:
    """Measure the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*", help=f"names, or beginnings of names with a star: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="objects of the large databases")
    parser.add_argument("--clients", type=int, default=10_000, help="accounts in them")
    parser.add_argument("--grants", type=int, default=1_000_000, help="grants in them")
    parser.add_argument("--records", type=int, default=10_000_000, help="audit records in them")
    parser.add_argument("--stream", type=int, default=1024, help="MiB of the stream")
    parser.add_argument("--requests", type=int, default=1_000_000, help="mixed requests between two looks at memory")
    parser.add_argument("--tool", type=Path, default=tool_folder(), help="the load generator")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--profile", type=Path, help="folder for samples of one more round of each row, by py-spy")
    options = parser.parse_args()
    rows = list(dict.fromkeys(chosen(options.rows, ROWS)))
    servers.BUILD.mkdir(parents=True, exist_ok=True)
    taken = {name: vars(options)[name] for name in Bench.OPTIONS}
    with tempfile.TemporaryDirectory(prefix="kms-bench-") as folder:
        bench = Bench(Path(folder), **taken)
        with bench.stack:
            samples, absent = measure(bench, rows, options.rounds)
            measured = [row for row in rows if row.name in samples]
            sampled = profiles(bench, measured, options.profile) if options.profile else []
    found = [row.result(samples[row.name]) for row in measured]
    print("\n".join([*lines(found, absent), "", *sampled]))
    if options.json:
        options.json.write_text(json.dumps({"rows": found, "not measured": absent}, indent=1))


if __name__ == "__main__":
    main()
