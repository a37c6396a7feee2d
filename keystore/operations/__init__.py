"""The operations: one function each, under `@operation`, found by importing this package's modules."""

import importlib
import pkgutil


def load() -> None:
    """Import every module of the package, so that its handlers are registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
