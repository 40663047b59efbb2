from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from autoseg.arrays.components import post_processed
from autoseg.evaluation.metrics import score_case
from autoseg.pipeline.post_processing import try_options
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "liver": 1, "tumor": 5}, ignore=9)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))

shapes = st.tuples(*[st.integers(1, 6)] * 3)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([PLAIN, REGIONS]))
def test_a_trial_scores_what_the_mask_would_become(data: st.DataObject, labels: Labels) -> None:
    shape = data.draw(shapes)
    values = list(labels.values)
    mask = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, *values])))
    known = [*values, *([] if labels.ignore is None else [labels.ignore])]
    reference = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, *known])))
    options = [None, *labels.foreground]
    trial = try_options(
        reference, mask, labels, ["core"] if labels.has_regions else [], options, list(labels.foreground)
    )
    start = post_processed(mask, ["core"] if labels.has_regions else [], labels)
    for option, found in zip([[], *[[one] for one in options]], [trial.before, *trial.after], strict=True):
        expected = score_case("c", reference, post_processed(start, option, labels), (1, 1, 1), labels, 1.0).labels
        present = {name: one.dice for name, one in expected.items() if one.true_positives + one.false_negatives > 0}
        assert found == pytest.approx(present)
