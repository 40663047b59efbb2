from __future__ import annotations

import pytest
import torch

from autoseg.inference.evidence import Evidence, joined
from autoseg.records import LabelEvidence, Labels

LABELS = Labels(names={"background": 0, "a": 1, "b": 7})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})


def looked_at(labels: Labels, scores: torch.Tensor, planes: int = 3) -> dict[str, LabelEvidence]:
    evidence = Evidence(labels)
    passed = list(evidence.seen(iter(scores.split(planes, dim=1))))
    assert torch.equal(torch.cat(passed, dim=1), scores)
    return evidence.labels()


def by_definition(probability: torch.Tensor, mask: torch.Tensor) -> LabelEvidence:
    confidence = 2 * probability[mask].sum() / (mask.sum() + probability.sum())
    inner = mask.clone()
    for axis in (1, 2):
        for shift in (1, -1):
            rolled = mask.roll(shift, dims=axis)
            edge = 0 if shift == 1 else -1
            rolled.select(axis, edge).copy_(mask.select(axis, edge))  # beyond the border nothing is outside
            inner &= rolled
    edge_mask = mask & ~inner
    return LabelEvidence(confidence=float(confidence), boundary=float(probability[edge_mask].mean()))


def blobs(heads: int) -> torch.Tensor:
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool3d(torch.randn(1, heads, 12, 14, 13), 5, 1, 2)[0]
    return smooth * 30


@pytest.mark.parametrize("planes", [1, 5, 12])
def test_sums_are_those_of_the_definition(planes: int) -> None:
    scores = blobs(3)
    found = looked_at(LABELS, scores, planes)
    probabilities, winner = scores.softmax(0), scores.argmax(0)
    for number, name in ((1, "a"), (2, "b")):
        expected = by_definition(probabilities[number], winner == number)
        assert found[name].confidence == pytest.approx(expected.confidence, rel=1e-5)
        assert found[name].boundary == pytest.approx(expected.boundary, rel=1e-5)


def test_regions_have_masks_of_their_own() -> None:
    scores = blobs(2)
    found = looked_at(REGIONS, scores)
    for number, name in enumerate(("whole", "core")):
        expected = by_definition(scores[number].sigmoid(), scores[number] > 0)
        assert found[name].confidence == pytest.approx(expected.confidence, rel=1e-5)
        assert found[name].boundary == pytest.approx(expected.boundary, rel=1e-5)


def test_what_is_not_found_has_no_evidence() -> None:
    scores = torch.zeros(3, 2, 4, 4)
    scores[0] = 5
    assert looked_at(LABELS, scores) == {"a": LabelEvidence(), "b": LabelEvidence()}


def test_certainty_is_confidence_one() -> None:
    scores = torch.zeros(3, 4, 6, 6)
    scores[0] = 200
    scores[1, 1:3, 2:4, 2:4] = 400
    found = looked_at(LABELS, scores)["a"]
    assert found.confidence == pytest.approx(1)
    assert found.boundary == pytest.approx(1)


def test_groups_are_averaged_where_they_found_a_label() -> None:
    sure, empty = Evidence(LABELS), Evidence(LABELS)
    scores = blobs(3)
    list(sure.seen(iter([scores])))
    nothing = torch.zeros_like(scores)
    nothing[0] = 9
    list(empty.seen(iter([nothing])))
    assert joined([sure, empty])["a"] == sure.labels()["a"]
