"""Make a virtual environment with pip, on Debian and Ubuntu also without the package python3-venv.

Without that package Python lacks `ensurepip`; pip is then taken from the system or, failing that, from the package
index, whose own digest of the file is compared."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"
SIMPLE_API = "application/vnd.pypi.simple.v1+json"
WHEEL = re.compile(r"pip-(\d+(?:\.\d+)*)-py3-none-any\.whl")


def main(folder: Path) -> None:
    """Make the environment."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs before anything has checked
        sys.exit("Python 3.11 or newer is needed")
    python = folder / "bin" / "python"
    if importlib.util.find_spec("ensurepip"):
        venv.create(folder, with_pip=True, symlinks=True)
        return
    venv.create(folder, with_pip=False, symlinks=True)
    if importlib.util.find_spec("pip"):
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "pip"], check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download_pip(Path(scratch))
        # A wheel is a zip file, and pip runs from inside one.
        subprocess.run([str(python), f"{wheel}/pip", "install", "-q", "--no-index", str(wheel)], check=True)


def download_pip(folder: Path) -> Path:
    """The newest pip of the index, in the folder."""
    index = os.environ.get("PIP_INDEX_URL", DEFAULT_INDEX).rstrip("/")
    try:
        request = urllib.request.Request(f"{index}/pip/", headers={"Accept": SIMPLE_API})
        with urllib.request.urlopen(request, timeout=60) as answer:
            address, files = answer.geturl(), json.load(answer)["files"]
        wheels = {match[1]: file for file in files if (match := WHEEL.fullmatch(file["filename"]))}
        newest = wheels[max(wheels, key=lambda version: [int(part) for part in version.split(".")])]
        with urllib.request.urlopen(urllib.parse.urljoin(address, newest["url"]), timeout=60) as answer:
            content = answer.read()
    except (OSError, ValueError, KeyError) as exc:
        sys.exit(f"cannot get pip from {index} ({exc}); install python3-venv, or set PIP_INDEX_URL")
    if hashlib.sha256(content).hexdigest() != newest["hashes"]["sha256"]:
        sys.exit(f"{newest['filename']} is not what {index} says it is")
    wheel = folder / newest["filename"]
    wheel.write_bytes(content)
    return wheel


if __name__ == "__main__":
    main(Path(sys.argv[1]))
