"""A program for the tests of what the audit may lose: does one thing until it is killed, and says what was answered.

python traffic.py write     creates keys without end, and prints each identifier once it is acknowledged
python traffic.py read      gets a key again and again, and prints the time (seconds) of each answer
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")

import django

django.setup()

from kmip.enums import Operation  # noqa: E402
from kmip.payloads import GetRequest  # noqa: E402
from tests.authority import do  # noqa: E402
from tests.made import registered  # noqa: E402


def write() -> None:
    while True:
        print(registered(material=os.urandom(16)), flush=True)


def read() -> None:
    uid = registered()
    while True:
        do(Operation.GET, GetRequest(unique_identifier=uid))
        print(time.time(), flush=True)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]]()
