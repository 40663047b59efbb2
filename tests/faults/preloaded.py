"""All that commands load, loaded once: children are forked from the process that has."""

from __future__ import annotations

import matplotlib.backends.backend_agg
import matplotlib.figure
import torch
import torch._dynamo

import autoseg.cli
import autoseg.pipeline.check
import autoseg.pipeline.evaluate
import autoseg.pipeline.plan
import autoseg.pipeline.predict
import autoseg.pipeline.prepare
import autoseg.pipeline.train

__all__ = ["autoseg", "matplotlib", "torch"]
