"""Two processes train as one does: the same samples, the same loss, the same gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ranks_builders import SCENARIOS, STEPS, in_two_processes, results, scenario_setup, train_all, trained

from autoseg.torchrun import Place
from autoseg.training.ranks import ALONE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    in_two_processes(made, train_all)
    return made


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_two_processes_have_the_loss_and_gradient_of_one(name: str, folder: Path) -> None:
    alone = trained(scenario_setup(SCENARIOS[name]), SCENARIOS[name].spoiled)
    assert bool(alone["losses"][0].isnan()) == SCENARIOS[name].spoiled
    for found in results(folder, name):
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=1e-6, equal_nan=True)
        names = {key for key in alone if key.startswith(("gradient/", "weight/"))}
        assert names == {key for key in found if key.startswith(("gradient/", "weight/"))}
        assert any(key.startswith("gradient/") for key in names)
        for key in names:
            scale = float(alone[key].abs().max())
            torch.testing.assert_close(found[key], alone[key], rtol=1e-4, atol=1e-4 * scale + 1e-7)


@pytest.mark.parametrize("name", ["per sample", "uneven shares", "in uneven parts"])
def test_a_sample_is_the_same_whoever_makes_it(name: str, folder: Path) -> None:
    alone = trained(scenario_setup(SCENARIOS[name]))
    both = results(folder, name)
    for kind in ("sample", "augmented"):
        wanted = {key for key in alone if key.startswith(f"{kind}/")}
        assert len(wanted) == STEPS * SCENARIOS[name].batch_size
        shares = [{key for key in found if key.startswith(f"{kind}/")} for found in both]
        assert shares[0] | shares[1] == wanted
        assert not shares[0] & shares[1]
        for found, share in zip(both, shares, strict=True):
            assert all(torch.equal(found[key], alone[key]) for key in share)


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.samples_at_a_time])
def test_parts_have_the_loss_and_gradient_of_the_whole(name: str) -> None:
    scenario = SCENARIOS[name]
    whole = trained(scenario_setup(scenario))
    parts = trained(scenario_setup(scenario, ALONE, scenario.samples_at_a_time))
    torch.testing.assert_close(parts["losses"], whole["losses"], rtol=1e-5, atol=1e-6)
    for key in whole:
        if key.startswith("gradient/"):
            scale = float(whole[key].abs().max())
            torch.testing.assert_close(parts[key], whole[key], rtol=1e-4, atol=1e-4 * scale + 1e-7)


@pytest.mark.parametrize(("samples", "world"), [(2, 2), (3, 2), (12, 5), (4, 4), (1, 1)])
def test_shares_make_up_the_batch(samples: int, world: int) -> None:
    shares = [Place(rank, world, 0, 1).share(samples) for rank in range(world)]
    assert [place for share in shares for place in share] == list(range(samples))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert (
        max(map(len, shares))
        == replace(
            scenario_setup(SCENARIOS["per sample"]),
            configuration=scenario_setup(SCENARIOS["per sample"]).configuration.model_copy(
                update={"batch_size": samples}
            ),
            ranks=replace(ALONE, place=Place(0, world, 0, 1)),
        ).largest_share
    )
