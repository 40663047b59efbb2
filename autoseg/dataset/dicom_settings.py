"""pydicom, and its settings while it works for us: a program that embeds autoseg keeps its own.

Its warnings would quote values of fields, and what matters is checked here. Validation, warnings and the level of its
log belong to the whole process, so the first of the calls that are under way changes them, and the last puts back what
it found, whichever threads they are of. What other threads do with pydicom meanwhile goes by our settings.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from autoseg.errors import UsageError


def load_pydicom() -> Any:
    """The pydicom module. Raises UsageError where the extra is not installed."""
    try:
        import pydicom
    except ImportError as error:
        raise UsageError(
            "DICOM needs pydicom, which is not installed",
            remedy="Install it in the clone's folder: pip install -c constraints.txt '.[dicom]'",
        ) from error
    return pydicom


class _Shared:
    """Settings that are changed while anybody is within, however many there are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._restore = ExitStack()

    def enter(self, pydicom: Any) -> None:
        with self._lock:
            if self._within == 0:
                self._restore = _changed(pydicom)
            self._within += 1

    def leave(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._restore.close()


def _changed(pydicom: Any) -> ExitStack:
    """Our settings, and what puts back those from before."""
    log, restore = logging.getLogger("pydicom"), ExitStack()
    restore.enter_context(pydicom.config.disable_value_validation())
    restore.enter_context(warnings.catch_warnings())
    # of text that is not in its encoding it warns all the same
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\.|$)")
    restore.callback(log.setLevel, log.level)
    log.setLevel(logging.ERROR)
    return restore


_SHARED = _Shared()


@contextmanager
def own_settings() -> Iterator[None]:
    """Around all that pydicom does for us: as a `with` block, or as a decorator of a function that is no generator.

    Raises UsageError where pydicom is not installed.
    """
    _SHARED.enter(load_pydicom())
    try:
        yield
    finally:
        _SHARED.leave()
