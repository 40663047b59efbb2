"""The estimate of a patch on its way through a network, beside what it takes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from inference_builders import make_configuration

from autoseg.inference.window_memory import patch_bytes
from autoseg.planning.families import family_of
from autoseg.planning.presets import Architecture
from autoseg.records import Configuration

EDGE = 64

PEAK = """
import sys, threading, time
import psutil
import torch
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.records import NetworkSpec

torch.set_num_threads(1)
spec = NetworkSpec.model_validate_json(sys.argv[1])
network = prepare_for_device(build_network(spec), torch.device("cpu")).eval()
network.deep_supervision = False
image = torch.randn(1, spec.channels, *spec.patch_size)
process, ended = psutil.Process(), False
before = peak = process.memory_info().rss

def watch():
    global peak
    while not ended:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)

watching = threading.Thread(target=watch)
watching.start()
with torch.inference_mode():
    network(image)
ended = True
watching.join()
print(peak - before)
"""


def configuration(name: str) -> Configuration:
    """The network that the planner makes for a patch."""
    family = family_of(Architecture("unet", (2,), 2, 16), name)
    topology = family.topology((1.0,) * 3, (EDGE,) * 3)
    return make_configuration(patch=topology.patch_size, network=name).model_copy(
        update={
            "strides": topology.strides,
            "kernel_sizes": topology.kernel_sizes,
            "features_per_stage": family.features(320, topology.stages),
            "blocks_per_stage": family.architecture.blocks_per_stage(topology.stages),
            "blocks_per_stage_decoder": (family.architecture.decoder_blocks,) * (topology.stages - 1),
        }
    )


def test_networks_with_the_same_features_are_told_apart() -> None:
    sizes = {name: patch_bytes(configuration(name), 1, 3, "float32") for name in ("unet", "unetpp", "deeplabv3plus")}
    assert sizes["unetpp"] > 2 * sizes["unet"]  # its nested skips all wait
    assert sizes["deeplabv3plus"] > 64 * 2**20 * 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["unetpp", "deeplabv3plus", "attention-unet", "segresnet", "mednext", "unetr", "swin-unetr"]
)
def test_a_patch_takes_no_more_than_is_told(name: str, tmp_path: Path) -> None:
    planned = configuration(name)
    spec = planned.network_spec(1, 3, deep_supervision=False)
    (tmp_path / "peak.py").write_text(PEAK, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "peak.py"), spec.model_dump_json()]
    found = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    told = patch_bytes(planned, 1, 3, "float32") + 2**25
    assert told / 4 < found < told
    assert math.prod(planned.patch_size) == EDGE**3
