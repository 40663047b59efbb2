"""`python -m autoseg`: the same as the command `autoseg`."""

from __future__ import annotations

import sys

from autoseg.cli import main

if __name__ == "__main__":  # spawned workers import this module again
    sys.exit(main())
