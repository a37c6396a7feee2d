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
