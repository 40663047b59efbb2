"""Where prepared cases are held: by what a step was measured to take on the same device."""

from __future__ import annotations

import torch

from autoseg import devices
from autoseg.files import write_record
from autoseg.pipeline.placing import measured_step_bytes
from autoseg.records import Probe, StepProbe
from autoseg.workspace import Workspace

CPU = torch.device("cpu")


def test_what_was_measured_on_another_device_does_not_count(planned: Workspace) -> None:
    planned.probe().unlink(missing_ok=True)
    assert measured_step_bytes(planned, "default", "2d", CPU) is None
    step = StepProbe(configuration="2d", fits=True, peak_bytes=123, limit_bytes=10**12)
    for device, wanted in ((devices.describe(CPU), 123), ("Another GPU, 80 GB", None)):
        made = Probe(plan="default", device=device, precision="float32", free_bytes=1, steps=(step,))
        write_record(planned.probe(), made)
        assert measured_step_bytes(planned, "default", "2d", CPU) == wanted
        assert measured_step_bytes(planned, "default", "3d_fullres", CPU) is None
    planned.probe().write_text("no record")
    assert measured_step_bytes(planned, "default", "2d", CPU) is None
