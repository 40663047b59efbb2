from __future__ import annotations

import numpy as np
import pytest

from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.summary import summarize
from autoseg.records import CaseScore, LabelScore
from autoseg.report.counted_sections import objects_section
from autoseg.report.page import Table


def score(prediction: list[int] | None) -> LabelScore:
    """Of a row of voxels in which one object is; without a prediction objects are not counted."""
    reference = np.array([[[1, 1, 0, 0]]])
    instances = None if prediction is None else score_instances(reference, np.array([[prediction]]))
    return LabelScore(
        dice=1.0,
        iou=1.0,
        true_positives=2,
        false_positives=0,
        false_negatives=0,
        volume_reference_ml=1.0,
        volume_prediction_ml=1.0,
        instances=instances,
    )


@pytest.mark.parametrize(
    ("things", "told"), [(("cell",), "things 0.667, stuff 1.000, all 0.833"), ((), "stuff 0.833, all 0.833")]
)
def test_the_mean_quality_of_things_and_stuff_is_told(things: tuple[str, ...], told: str) -> None:
    case = CaseScore(case="a", labels={"cell": score([1, 1, 0, 0]), "tissue": score([1, 1, 0, 0])})
    other = CaseScore(case="b", labels={"cell": score([0, 0, 0, 0])})
    summary = summarize([case, other], 1.0, names=("cell", "tissue"), things=things)
    section = objects_section(summary)
    assert section is not None
    assert section.lead == f"Of all cases together, and in two columns means over cases. Mean PQ of labels: {told}."
    (rows,) = section.blocks
    assert isinstance(rows, Table)
    assert [row[0].text for row in rows.rows] == ["cell", "tissue"]
    for column, quality in (("PQ", "0.667"), ("PQ of cases", "0.500"), ("AP50 of cases", "0.500")):
        assert [row[rows.columns.index(column)].text for row in rows.rows] == [quality, "1.000"]


def test_where_nothing_is_counted_there_is_no_section() -> None:
    assert objects_section(summarize([CaseScore(case="a", labels={"cell": score(None)})], 1.0)) is None
