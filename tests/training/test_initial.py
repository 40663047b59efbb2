from __future__ import annotations

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.networks.catalog import NETWORKS, build_network
from autoseg.planning.families import family_of
from autoseg.planning.presets import Architecture
from autoseg.records import Labels, NetworkSpec
from autoseg.training.initial import fitting_weights, output_names, same_channels, same_outputs


def spec(network: str = "unet", channels: int = 1, heads: int = 2, **changes: object) -> NetworkSpec:
    return NetworkSpec.model_validate(
        {
            "network": network,
            "dimensions": 3,
            "channels": channels,
            "heads": heads,
            "strides": ((1, 1, 1), (2, 2, 2)),
            "kernel_sizes": ((3, 3, 3),) * 2,
            "features_per_stage": (4, 6),
            "blocks_per_stage": (1, 1),
            "blocks_per_stage_decoder": (1,),
            **changes,
        }
    )


def planned(network: str, channels: int = 1, heads: int = 2) -> NetworkSpec:
    """A small one of any network, as the planner makes it."""
    family = family_of(Architecture("unet", blocks=(1,), decoder_blocks=1, base_features=16), network)
    return family.spec(family.topology((1.0, 1.0), (16, 16)), 8, channels, heads)


def weights(entry: NetworkSpec, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_network(entry).state_dict())


@pytest.mark.parametrize("network", list(NETWORKS))
def test_the_same_network_is_filled_completely(network: str) -> None:
    source = weights(planned(network))
    target = build_network(planned(network))
    fitting = fitting_weights(source, planned(network), {0: 0}, {0: 0, 1: 1})
    assert (fitting.whole, fitting.partial, fitting.new) == (len(source), (), ())
    fitting.copy_to(target)
    assert all(torch.equal(tensor, source[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("network", list(NETWORKS))
def test_channels_and_labels_in_common_are_copied_and_others_stay_random(network: str) -> None:
    source = weights(planned(network, channels=2, heads=3), seed=1)
    wanted = planned(network, channels=3, heads=3)
    torch.manual_seed(2)
    target = build_network(wanted)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    # channel 2 of the target was channel 0; outputs 0 and 2 were outputs 0 and 1
    fitting = fitting_weights(source, wanted, {2: 0}, {0: 0, 2: 1})
    fitting.copy_to(target)
    after = target.state_dict()
    inputs = [name for name in fitting.partial if after[name].shape != source[name].shape]
    outputs = [name for name in fitting.partial if name not in inputs]
    assert inputs
    assert {name.rsplit(".", 1)[1] for name in outputs} == {"weight", "bias"}
    assert fitting.new == ()
    for name in inputs:
        assert torch.equal(after[name][:, 2], source[name][:, 0])
        assert torch.equal(after[name][:, :2], before[name][:, :2])
    for name in outputs:
        axis = 1 if network == "mednext" and name.endswith("weight") else 0  # its heads are transposed convolutions
        now, then, theirs = (tensors[name].movedim(axis, 0) for tensors in (after, before, source))
        assert torch.equal(now[[0, 2]], theirs[[0, 1]])
        assert torch.equal(now[1], then[1])


def test_what_has_another_shape_is_new_and_another_network_is_refused() -> None:
    source = weights(spec())
    deeper = spec(blocks_per_stage=(1, 2))
    fitting = fitting_weights(source, deeper, {0: 0}, {0: 0, 1: 1})
    assert fitting.new
    assert fitting.whole == len(source)
    with pytest.raises(TrainingError, match="another architecture"):
        fitting_weights({"body.weight": torch.zeros(3, 3)}, spec(), {0: 0}, {0: 0})


def test_labels_are_matched_by_name() -> None:
    old = Labels(names={"background": 0, "liver": 1, "tumour": 2})
    new = Labels(names={"background": 0, "spleen": 1, "tumour": 5, "liver": 7})
    assert output_names(new) == ("background", "spleen", "tumour", "liver")
    assert same_outputs(new, old) == {0: 0, 2: 2, 3: 1}
    regions = Labels(names={"background": 0, "whole": (1, 2), "tumour": 2}, regions_class_order=(1, 2))
    assert same_outputs(regions, old) == {}
    assert same_outputs(regions, regions) == {0: 0, 1: 1}


def test_channels_are_matched_by_name_or_else_in_order() -> None:
    assert same_channels(("T2", "t1", "CT"), ("T1", "T2")) == {0: 1, 1: 0}
    assert same_channels(("MR",), ("T1",)) == {0: 0}
    assert same_channels(("MR", "CT"), ("T1",)) == {}
