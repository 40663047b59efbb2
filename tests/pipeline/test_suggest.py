"""`suggest` on small images: what networks are unsure of comes first, its twin last, and nothing is looked at twice."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from selection_builders import Threshold, a_work, finished, simple_networks  # noqa: F401
from volume_builders import Told

from autoseg.cli import main
from autoseg.errors import ModelError, UsageError
from autoseg.files import read_record
from autoseg.networks import catalog
from autoseg.pipeline.report import report
from autoseg.pipeline.suggest import SuggestReport, suggest
from autoseg.pipeline.suggest_evidence import read_seen
from autoseg.pipeline.suggest_pages import suggest_report
from autoseg.progress import SilentProgress
from autoseg.records import Suggestions
from autoseg.workspace import Workspace

SHAPE = (20, 18, 16)


class Doubtful(Threshold):
    """Unsure of what is about as bright as 1, sure of all else; mean intensities are its features."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = image[:, :1]
        return torch.cat([20 * (1 - first), first * 0 + self.bias, 20 * (first - 2)], dim=1)


def write_image(path: Path, unsure: int, brightness: float, seed: int) -> None:
    """A box of grey, of which so many layers (along i) are as bright as the threshold, in an image so bright."""
    image = np.full(SHAPE, brightness, np.float32)
    image[4:16, 4:14, 4:12] = 1.5
    image[16 - unsure : 16, 4:14, 4:12] = 1.01
    image += np.random.default_rng(seed).normal(0, 0.005, SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def unlabelled(folder: Path) -> Path:
    """Five images that networks are sure of, one that they are unsure of with its twin, and an odd one."""
    folder.mkdir()
    for number in range(5):
        write_image(folder / f"sure_{number}_0000.nii.gz", 0, 0.3, number)
    write_image(folder / "unsure_0000.nii.gz", 9, 0.3, 10)
    shutil.copy(folder / "unsure_0000.nii.gz", folder / "unsure_twin_0000.nii.gz")
    write_image(folder / "odd_0000.nii.gz", 5, -0.6, 11)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, simple_networks: None) -> Iterator[Workspace]:  # noqa: F811
    """A work folder with a network per kind, and unlabelled images beside it; to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.NETWORKS, "threshold", Doubtful)
        folder = tmp_path_factory.mktemp("suggest")
        work = a_work(folder, cases=4, folds=2, specks=False)
        finished(work, "3d_fullres", 0, 0.0)
        finished(work, "2d", 0, 0.0)
        unlabelled(folder / "new")
        assert main(["suggest", str(folder / "new"), *options(work)]) == 0
        yield work


def options(work: Workspace, configuration: str = "3d_fullres") -> list[str]:
    model = work.run("default", configuration, 0).model
    return ["--work", str(work.root), "--model", str(model), "--device", "cpu"]


def own_copy(work: Workspace, folder: Path) -> Workspace:
    """A copy that a test may change, with the images beside it."""
    shutil.copytree(work.root.parent, folder / "copy")
    return Workspace(folder / "copy" / "work")


def suggested(
    work: Workspace, told: SilentProgress | None = None, configuration: str = "3d_fullres", **how: object
) -> SuggestReport:
    return suggest(
        work.root.parent / "new",
        work,
        models=(work.run("default", configuration, 0).model,),
        device="cpu",
        progress=told or SilentProgress(),
        **how,  # type: ignore[arg-type]
    )


def queue(work: Workspace) -> Suggestions:
    return read_record(work.suggestions / "suggestions.json", Suggestions)


def test_the_unsure_come_first_and_a_twin_last(trained: Workspace) -> None:
    found = queue(trained)
    order = [one.case for one in found.suggested]
    assert (found.unit, found.candidates, found.labelled) == ("case", 8, 4)
    assert sorted(order) == sorted(path.name[:-12] for path in (trained.root.parent / "new").iterdir())
    assert {order[0], order[1]} == {"odd", "unsure"}
    by_case = {one.case: one for one in found.suggested}
    assert by_case["unsure_twin"].gain == pytest.approx(0, abs=1e-4)
    assert by_case["unsure_twin"].loss == pytest.approx(by_case["unsure"].loss)
    assert by_case["unsure"].loss > 0.1 > by_case["sure_0"].loss
    gains = [one.gain for one in found.suggested]
    assert gains == sorted(gains, reverse=True)
    assert sum(gains) <= 1 + 1e-6


def test_coordinates_are_of_what_is_unsure(trained: Workspace) -> None:
    (unsure,) = (one for one in queue(trained).suggested if one.case == "unsure")
    stored = nibabel.load(trained.root.parent / "new" / "unsure_0000.nii.gz")
    assert np.asarray(stored.dataobj)[unsure.index] == pytest.approx(1.01, abs=0.05)  # nibabel's axes are (i, j, k)
    np.testing.assert_allclose(unsure.position, (stored.affine @ [*unsure.index, 1])[:3], atol=1e-3)


def test_the_table_and_the_page_hold_the_queue(trained: Workspace) -> None:
    with open(trained.suggestions / "suggestions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [one.case for one in queue(trained).suggested]
    assert [row["slice"] for row in rows] == [""] * len(rows)
    html = (trained.suggestions / "suggestions.html").read_text(encoding="utf-8")
    assert html.count("data:image/webp") == len(rows)
    made = report(trained, progress=SilentProgress())
    assert "what to label next" not in made.failures
    assert trained.suggestions / "suggestions.html" in made.pages
    anonymous = suggest_report(trained, anonymous=True).read_text(encoding="utf-8")
    assert "unsure_twin" not in anonymous
    assert anonymous.count("data:image/webp") == len(rows)


def test_json_is_the_whole_queue(trained: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", str(trained.root.parent / "new"), *options(trained), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert Suggestions.model_validate(told) == queue(trained)


def test_new_images_alone_are_looked_at(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (work.suggestions / "seen").iterdir()}
    write_image(work.root.parent / "new" / "later_0000.nii.gz", 2, 0.3, 12)
    assert suggested(work).suggestions.candidates == 9
    after = {path.name: path.stat().st_mtime_ns for path in (work.suggestions / "seen").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"later.npz"}


def test_what_was_kept_and_is_damaged_is_made_again(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    path = work.suggestions / "seen" / "odd.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert read_seen(path, "odd", None) is None
    again, before = suggested(work).suggestions.suggested, queue(trained).suggested
    assert [(one.case, one.index) for one in again] == [(one.case, one.index) for one in before]
    assert [one.gain for one in again] == pytest.approx([one.gain for one in before], abs=1e-5)


def test_images_that_are_labelled_are_not_compared_with_themselves(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    new = work.root.parent / "new"
    cases = sorted((trained.root.parent / "data" / "imagesTr").iterdir())
    shutil.copy(cases[0], new / cases[0].name)  # other bytes on the disk, the same image: nothing to be gained
    found = {one.case: one for one in suggested(work).suggestions.suggested}
    assert found["case_00"].likeness == pytest.approx(1.0, abs=1e-3)
    assert found["case_00"].gain < found["odd"].gain / 5
    alone = suggested(work, labelled=False).suggestions
    assert alone.labelled == 0
    assert all(one.likeness == 0 for one in alone.suggested)


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_slices_of_what_is_unsure_come_first(trained: Workspace, tmp_path: Path, configuration: str) -> None:
    work = own_copy(trained, tmp_path)
    found = suggested(work, configuration=configuration, slices=True, count=12).suggestions
    assert (found.unit, len(found.suggested)) == ("slice", 12)
    assert found.candidates > 8 * 10
    first = found.suggested[0]
    assert first.case in ("unsure", "unsure_twin", "odd")
    assert first.slice == first.index["ijk".index(first.axis)]
    assert len({(one.case, one.slice) for one in found.suggested}) == 12
    twins = {one.slice for one in found.suggested if one.case == "unsure"}
    assert not twins & {one.slice for one in found.suggested if one.case == "unsure_twin" and one.gain > 1e-3}


def test_networks_that_see_slices_rank_slices(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    assert main(["suggest", str(work.root.parent / "new"), *options(work, "2d"), "--count", "5"]) == 0
    assert queue(work).unit == "slice"
    assert len(queue(work).suggested) == 5
    seen = read_seen(work.suggestions / "seen" / "odd.npz", "odd", None)
    assert seen is not None
    assert len(seen.planes) == len(seen.sums.place) > 10
    assert main(["suggest", str(work.root.parent / "new"), *options(work, "2d"), "--cases"]) == 0
    assert queue(work).unit == "case"


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_ranked(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    path = work.root.parent / "new" / "sure_3_0000.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blank = nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4))
    nibabel.save(blank, work.root.parent / "new" / "blank_0000.nii.gz")
    assert main(["suggest", str(work.root.parent / "new"), *options(work)]) == 2
    found = queue(work)
    assert set(found.failures) == {"sure_3", "blank"}
    assert "nothing to label" in found.failures["blank"]
    assert {one.case for one in found.suggested} == {*(one.case for one in queue(trained).suggested)} - {"sure_3"}


def test_a_table_of_another_is_left_alone(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    (work.suggestions / "suggestions.csv").write_text("mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"suggestions\.csv: is not a table of autoseg's suggestions"):
        suggested(work)
    assert (work.suggestions / "suggestions.csv").read_text(encoding="utf-8") == "mine\n"


def test_without_a_trained_network_the_command_says_what_to_do(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=4, folds=2)
    with pytest.raises(ModelError, match="nothing was trained here yet"):
        suggest(unlabelled(tmp_path / "new"), work, device="cpu", progress=Told())
