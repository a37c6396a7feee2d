"""A software token for tests: SoftHSM2 in a folder of its own, settings that name it, and pulling it out."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keystore import conf, sealing, store

MODULES = [
    Path(folder) / "libsofthsm2.so" for folder in ("/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/local/lib/softhsm")
]
MODULE = next((path for path in MODULES if path.exists()), None)
needed = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None, reason="SoftHSM2 is not installed (Debian: softhsm2)"
)

PROVIDER = "keystore.token.provider"
PIN = "4711"


@pytest.fixture(scope="session")
def hsm_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SoftHSM2's own folder: the library reads its configuration once in a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", "one", "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(command, check=True, capture_output=True)
    yield folder
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def hsm(hsm_folder: Path, configure: Callable[..., object]) -> Iterator[Callable[..., Any]]:
    """Settings that name the token, with changes; forgotten afterwards."""

    def change(**more: object) -> Any:
        named = {"pkcs11_module": MODULE, "pkcs11_token": "one", "pkcs11_pin": PIN, "provider": PROVIDER} | more
        configure(**{f"sealing.{name}": value for name, value in named.items()})
        sealing.reset()
        store.rows.clear()
        return conf.current().sealing

    yield change
    sealing.reset()
    store.rows.clear()


class Away:
    """Pulls the token out, and plugs it in again."""

    def __init__(self, folder: Path) -> None:
        self.tokens, self.aside = folder / "tokens", folder / "aside"

    def out(self) -> None:
        self.tokens.rename(self.aside)

    def back(self) -> None:
        if self.aside.exists():
            self.aside.rename(self.tokens)


@pytest.fixture
def away(hsm_folder: Path) -> Iterator[Away]:
    """A hand at the token."""
    hand = Away(hsm_folder)
    yield hand
    hand.back()
