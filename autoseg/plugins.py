"""Modules from outside, named by --use: importing one lets it add entries to the tables of the program.

A module is code, and code is run only when the user names it, or when a plan or run of the user's own work folder
does. A model file can say which modules its networks need; it can never have them imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence

from autoseg.errors import AutosegError, ModelError, UsageError

#: What was imported, in order. Imported modules belong to the process; processes that it starts need them too.
_imported: list[str] = []


def load_plugins(names: Iterable[str]) -> tuple[str, ...]:
    """Import each module by its dotted name; the names of those that were not imported before.

    Modules are sought where Python finds them, and last in the current folder.

    Raises UsageError for what is no dotted name, cannot be found, or fails while it is imported.
    """
    fresh = tuple(name for name in dict.fromkeys(names) if name not in _imported)
    for name in fresh:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(
                f"--use {name}: that is not the name of a module",
                remedy="Write it as in an import: my_package.my_module",
            )
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)  # it stays: a module may import its neighbours later
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise _failed(name, error) from error
            raise UsageError(
                f"there is no module {name!r}",
                where=here,
                remedy="Install it with pip, or run autoseg in the folder that it lies in.",
            ) from None
        except AutosegError:
            raise
        except Exception as error:
            raise _failed(name, error) from error
        _imported.append(name)
    return fresh


def imported_plugins() -> tuple[str, ...]:
    """The modules that this process imported by name: a process that it starts must import them as well."""
    return tuple(_imported)


def require_allowed(needed: Sequence[str], allowed: Iterable[str], where: object) -> None:
    """Refuse a model whose modules nobody named. Raises ModelError, which lists them."""
    missing = [name for name in needed if name not in set(allowed)]
    if missing:
        told = " ".join(f"--use {name}" for name in missing)
        raise ModelError(
            f"its networks need code that is not in the file: {', '.join(missing)}",
            where=where,
            remedy=f"If you trust that code, which runs on this machine, add {told}.",
        )


def _failed(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"module {name!r} could not be imported: {type(error).__name__}: {error}", remedy="Correct it, or leave it out."
    )
