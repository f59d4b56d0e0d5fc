"""Packages that are optional: imported where they are needed, with the command where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from paradual.errors import ParadualImportError


def load(module: str, what: str, package: str, cure: str = "") -> Any:
    """Import a module of a package that may not be installed.

    Parameters
    ----------
    module : str
        Its name, with dots.
    what : str
        What needs it.
    package : str
        What pip installs.
    cure : str
        What else helps.

    Raises
    ------
    ParadualImportError
        If the package is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        name = module.partition(".")[0]
        if (missing.name or "").partition(".")[0] != name:
            raise
        quoted = f'"{package}"' if "[" in package else package
        raise ParadualImportError(
            f"{what} needs {name}, which is not installed: pip install {quoted}" + (cure and f", or {cure}")
        ) from missing


__all__ = ["load"]
