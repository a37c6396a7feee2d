"""Nothing is lost or broken when what replaces keys, or copies the database, is killed in the middle.

A few random points each; `make test-survival` takes fifty.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

PROGRAM = Path(__file__).resolve().parent / "survival.py"
ROWS = int(os.environ.get("SURVIVAL_ROWS") or 20_000)
POINTS = int(os.environ.get("SURVIVAL_POINTS") or 4)


@pytest.mark.parametrize("what", ["backup", "restore", "rotate-root", "rotate-sealing-key"])
def test_every_key_survives_kill_9(tmp_path, what):
    """After each kill every key can be read, states are legal, the audit chain is whole, and it can be done anew."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "kill", what, str(POINTS)],
        cwd=tmp_path, env=environment(tmp_path, {}), capture_output=True, text=True, timeout=60 + 20 * POINTS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["killed"] > 0


def test_backup_and_restore_take_the_same_memory_however_many_rows_there_are(tmp_path):
    """Some tens of MiB for buffers and groups of rows; a million rows in memory would be gigabytes."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "scale", str(ROWS)],
        cwd=tmp_path, env=environment(tmp_path, {}), capture_output=True, text=True, timeout=120 + ROWS // 500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["objects"] == ROWS and told["backup"]["mib"] < 64 and told["restore"]["mib"] < 64
