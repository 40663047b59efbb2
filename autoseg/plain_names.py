"""Names that a person gives to plans and configurations, of which files and folders are named."""

from __future__ import annotations

import re

from autoseg.errors import UsageError

#: What names of plans and configurations look like: each becomes part of a file's name and a folder, on every system.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")

#: The same in words.
PLAIN_NAMES = "letters a to z, digits, -, _ and . (not first or last)"


def is_plain_name(name: str) -> bool:
    """Whether a name can be that of a plan or a configuration."""
    return _PLAIN_NAME.fullmatch(name) is not None


def require_plain_name(name: str, of: str) -> str:
    """The name, if it can be that of a plan or a configuration (`of` says of which). Raises UsageError."""
    if not is_plain_name(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {of}, which names a file and a folder",
            remedy=f"It may be made of {PLAIN_NAMES}, such as 'my-plan_2'.",
        )
    return name
