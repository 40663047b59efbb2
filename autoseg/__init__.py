"""autoseg: self-configuring segmentation.

The package reads as the pipeline:

    dataset -> fingerprint -> planning -> preprocessing -> networks, training -> inference -> evaluation -> report

`pipeline` joins the stages (one function per command), `cli` parses words and prints, `records` holds what travels
between the stages, `arrays` the pure functions that stages share. From a program: `from autoseg import Predictor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoseg.predictor import Predictor

__version__ = "0.1.0"

__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> object:
    """`Predictor`, loaded when it is first asked for: torch takes seconds, and `autoseg --help` must not wait."""
    if name == "Predictor":
        from autoseg.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'autoseg' has no attribute {name!r}")
