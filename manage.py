#!/usr/bin/env python3
"""Django's command line; the flags that are settings are read first, because Django's own settings depend on them."""

import os
import sys

from keystore import conf


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")
    try:
        argv = conf.use_flags(sys.argv)
        conf.current()
        from django.core.management import execute_from_command_line

        execute_from_command_line(argv)
    except conf.ConfigError as error:
        conf.refuse(error)


if __name__ == "__main__":
    main()
