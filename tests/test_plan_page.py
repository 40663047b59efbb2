"""The page of plan.json tells of every field of the records that it is made of, and of no other.

`python tests/test_plan_page.py` writes docs/reference/plan-json.md anew.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from autoseg.records import Configuration, Labels, Plan, Preparation, Reason, TrainSettings
from autoseg.records.fingerprint import IntensityStatistics

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "plan-json.md"

INTRODUCTION = """# plan.json

Everything that decides a training beside the data, complete: nothing is inherited, and nothing is looked up elsewhere.
This page is generated from the program: `python tests/test_plan_page.py`.

It may be edited. A misspelt field, a missing one, a wrong type or a combination that cannot be (a patch that strides
do not divide) is an error that names the field. An edited plan is never overwritten by `autoseg plan`; give another one
`--name`. `autoseg plan --explain FIELD` tells the reason of a value and what it beat.

```python
from pathlib import Path

from autoseg.files import read_record
from autoseg.records import Plan

plan = read_record(Path("autoseg-work/plan.json"), Plan)
print(plan.format, plan.preset, plan.configuration("3d_fullres").patch_size)
```

Axes are in prepared order: the coarsest first, (Z, Y, X) for a 3D configuration and (Y, X) for a 2D one. Lengths are in
millimetres.
"""

#: Record -> what it is, and what each of its fields says.
RECORDS: dict[type[BaseModel], tuple[str, dict[str, str]]] = {
    Plan: (
        "The file as a whole.",
        {
            "format": "of the file; another number is refused with what to do",
            "name": "as in `--name`; `default` is in `plan.json`, another in `plan-NAME.json`; "
            "letters a to z, digits, `-`, `_` and `.`",
            "dataset": "name of the dataset",
            "preset": "the rules that it was planned by",
            "channels": "names of the image channels, in order",
            "labels": "names and values of the labels",
            "mirror_axes": "axes that augmentation and prediction may mirror; 2D configurations leave out axis 0",
            "configurations": "the ways to train, by name",
            "training": "defaults of the runs of this plan",
            "device": "what it was planned for",
            "plugins": "modules given by `--use`",
            "reasons": "why each derived value is what it is; changes nothing",
            "digest": "hash of the other fields, by which an edit is noticed; leave it as it is",
        },
    ),
    Labels: (
        "`labels`, as declared in the dataset.",
        {
            "names": "a name and its value, or a region and its values; in the order of the outputs",
            "ignore": "value of voxels that do not count",
            "regions_class_order": "value that each region writes into a mask, later ones over earlier ones",
            "things": "labels whose objects are counted, with the region of their cores; absent without any",
            "core_margin_mm": "how deep those cores begin; absent without any",
            "smallest_object_mm3": "what is smaller is no object; absent without any",
        },
    ),
    Configuration: (
        "One entry of `configurations`.",
        {
            "name": "the same as its key",
            "dimensions": "of patch and network",
            "preparation": "how images become what the network reads",
            "spacing": "voxel size of prepared images",
            "median_shape": "median shape of prepared images, in voxels",
            "patch_size": "what the network sees at a time, in voxels",
            "batch_size": "patches per step",
            "network": "its name: `unet`, `resenc`, …",
            "strides": "per stage and axis, the first all ones",
            "kernel_sizes": "per stage and axis",
            "features_per_stage": "feature maps of each stage",
            "blocks_per_stage": "convolutions, or residual blocks, on the way down",
            "blocks_per_stage_decoder": "the same on the way up",
            "batch_dice": "whether Dice is taken over the batch together, or patch by patch",
            "steps_per_epoch": "steps after which progress is shown and the state saved",
            "epochs": "of a whole training, unless a run says otherwise",
            "previous_stage": "the configuration whose labels it sees, in a cascade",
            "next_stage": "the configuration that sees its labels, in a cascade",
        },
    ),
    Preparation: (
        "`preparation`. Its hash names the folder of the prepared cases: a change prepares anew, beside them.",
        {
            "orientation": "whether images are turned to right, anterior, superior first, or taken as stored",
            "axis_order": "prepared axis *a* is axis `axis_order[a]` of the turned image",
            "spacing": "to which images are resampled; null keeps an axis as it is",
            "normalization": "per channel, its name",
            "use_mask_for_normalization": "per channel, whether only voxels that are not zero count",
            "intensities": "per channel, what was measured inside the labels",
            "labels": "the same as the plan's",
            "image_order": "order of the splines that resample images",
            "label_order": "the same of labels",
            "slice_order": "the same of scores, across slices much thicker than their pixels",
        },
    ),
    IntensityStatistics: (
        "One entry of `intensities`: foreground voxels of all cases, each case counting alike.",
        {
            "mean": "",
            "median": "",
            "std": "",
            "min": "",
            "max": "",
            "percentile_00_5": "CT images are clipped to this …",
            "percentile_99_5": "… and this",
        },
    ),
    TrainSettings: (
        "`training`. Options of `autoseg train` override them for one run.",
        {
            "epochs": "of a preset; a run takes those of its configuration",
            "budget_seconds": "wall time; the learning rate then follows the clock",
            "patience": "epochs without improvement after which a run is ended; 0 is off",
            "optimizer": "`adamw` or `sgd`",
            "learning_rate": "the highest",
            "momentum": "of `sgd`",
            "weight_decay": "of either",
            "warmup_steps": "over which the rate rises",
            "schedule": "how the rate falls: `poly`, or `wsd` (constant, then a decay over the last fifth)",
            "decay_power": "of `poly`",
            "loss": "`dice_ce`, `dice` or `ce`",
            "foreground_share": "of patches that are drawn around a labelled voxel",
            "augmentation": "`nnunet`, `elastic`, `fast`, `pictures` or `none`",
            "gradient_clip": "largest norm of the gradient",
            "ema_decay": "of averaged weights; 0 is off",
            "seed": "of everything drawn",
            "sampling": "what those patches are centred on: `foreground` a label of the case, all alike, then any "
            "voxel of it (nnU-Net); `balanced` labels that patches seldom show more often; `small` every connected "
            "component alike",
            "channel_dropout": "chance of each channel of a sample to be zeros",
            "initial": "hash of the model that it begins with (`--init`)",
            "plugins": "modules given by `--use` to a run",
        },
    ),
    Reason: (
        "One entry of `reasons`.",
        {
            "field": "such as `3d_fullres.patch_size`",
            "value": "in words",
            "because": "the rule, and the numbers that entered it",
            "instead": "what it beat, and why",
            "constant": "whether it is the preset's own, whatever the data",
        },
    ),
}


def in_words(kind: Any) -> str:
    """A type as a reader of JSON calls it."""
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(in_words(each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {several(in_words(get_args(kind)[0]))}"
    if get_origin(kind) is dict:
        return f"object of {several(in_words(get_args(kind)[1]))}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", types.NoneType: "null"}
    return names[kind]


def several(word: str) -> str:
    return {
        "integer": "integers",
        "number": "numbers",
        "text": "texts",
        "list of integers": "lists of integers",
        "number or null": "numbers or nulls",
    }.get(word, word)


def table(record: type[BaseModel], meanings: dict[str, str]) -> Iterator[str]:
    yield "| field | value | what it says |"
    yield "|---|---|---|"
    for name, field in record.model_fields.items():
        kind = "list of pairs" if name == "names" else in_words(field.annotation)
        nothing = field.is_required() or field.default_factory is not None or field.default in (None, (), "")
        default = "" if nothing else f"; `{json.dumps(field.default)}`"
        yield f"| `{name}` | {kind}{default} | {meanings[name]} |"


def page() -> str:
    parts = [INTRODUCTION]
    for record, (what, meanings) in RECORDS.items():
        parts += [f"## {record.__name__}", "", what, "", *table(record, meanings), ""]
    return "\n".join(parts)


def test_the_page_is_as_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_plan_page.py"


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_is_explained_and_no_other(record: type[BaseModel]) -> None:
    assert list(RECORDS[record][1]) == list(record.model_fields)


def test_every_record_of_a_plan_has_its_table() -> None:
    linked = set(re.findall(r"\]\(#(\w+)\)", page()))
    assert linked | {"plan"} == {record.__name__.lower() for record in RECORDS}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
