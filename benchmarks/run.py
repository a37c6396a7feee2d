"""A quick look: the server beside a bare TLS echo, at one connection and at eight.

    python -m benchmarks.run [--seconds 3] [--rounds 3] [--json FILE]

The figures of one run belong together: rows are interleaved over the rounds and medians are taken, so that ratios hold
on a machine whose speed changes. CPU per request is the steadier figure. `benchmarks.table` has the whole table.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import load, messages, rows, servers


def main() -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kms-bench-") as name:
        folder = Path(name)
        servers.prepare(folder)
        with servers.product(folder) as server, servers.echo(folder) as echo:
            before, _, after = messages.create()
            query, get = messages.query(), messages.get(rows.active_key(server.kmip))
            makers: dict[str, load.Maker] = {
                "Query": lambda number: query,
                "Get": lambda number: get,
                "Create": lambda number: before + messages.new_name() + after,
            }
            seen: dict[tuple[str, int, str], list[load.Result]] = {}
            for _ in range(options.rounds):
                for row, make in makers.items():
                    for connections in (1, 8):
                        for side, one in (("echo", echo), ("kms", server)):
                            result = load.run(one.kmip, one.processes(), [make] * connections, options.seconds)
                            seen.setdefault((row, connections, side), []).append(result)
    print(f"{'row':8}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}"
          f"{'echo/s':>9}{'echo CPU':>9}{'rate':>8}{'CPU':>8}{'errors':>8}")  # fmt: skip
    table = []
    for row in makers:
        for connections in (1, 8):
            mine, floors = (
                {key: statistics.median(asdict(one)[key] for one in seen[row, connections, side])
                 for key in ("rate", "p50", "p99", "cpu", "errors")}
                for side in ("kms", "echo")
            )  # fmt: skip
            table.append({"row": row, "connections": connections, "kms": mine, "echo": floors})
            print(
                f"{row:8}{connections:6}{mine['rate']:9.0f}{mine['p50'] * 1e3:9.2f}{mine['p99'] * 1e3:9.2f}"
                f"{mine['cpu'] * 1e6:9.0f}{floors['rate']:9.0f}{floors['cpu'] * 1e6:9.0f}"
                f"{mine['rate'] / floors['rate']:8.2f}{mine['cpu'] / floors['cpu']:8.1f}{mine['errors']:8.0f}"
            )
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
