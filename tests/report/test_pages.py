"""Pages: self-contained, escaped, small, and anonymous where that is asked for."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from report_builders import CASES, EVIL, LABELS, all_pages, epochs, fingerprint, pictures, summary

from autoseg.dataset.counted import with_cores
from autoseg.errors import UsageError
from autoseg.pipeline.looks import THUMBNAILS
from autoseg.records import CaseCost, CaseEvidence, CaseTrust, Expectation, LabelEvidence, LabelVolume, TrainSettings
from autoseg.report.cost_section import cost_section
from autoseg.report.dataset_page import Sample, dataset_page
from autoseg.report.outliers import far_out, outliers
from autoseg.report.page import (
    Facts,
    Page,
    Picture,
    Section,
    Table,
    Words,
    called,
    names_for,
    number,
    parted,
    render,
    table,
    told,
    word,
    write_page,
)
from autoseg.report.pictures import comparison, thumbnail
from autoseg.report.predictions_page import predictions_page
from autoseg.report.results_csv import as_csv
from autoseg.report.results_page import BEST, WORST, results_page, to_look_at
from autoseg.report.slices import Look
from autoseg.report.training_page import training_page

KINDS = ("plan", "dataset", "training", "results", "comparison", "masks", "audit", "suggest", "diagnosis")

#: HTML elements without an end.
VOID = ("meta", "link", "img", "br", "hr", "input", "wbr")


class Reader(HTMLParser):
    """Elements with their attributes, and those that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_loads_nothing_and_is_small(kind: str) -> None:
    html = render(all_pages()[kind])
    for tag, attributes in read(html).found:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"{tag} {name}={value}"
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert len(html.encode()) < 5_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_names_with_markup_stay_names(kind: str) -> None:
    html = render(all_pages()[kind])
    assert not [tag for tag, attributes in read(html).found if "onerror" in attributes]
    evil = Page(EVIL, EVIL, EVIL, (Section(EVIL, (Words(EVIL), table((EVIL,), [[word(EVIL, EVIL)]], EVIL)), EVIL),))
    assert not [tag for tag, attributes in read(render(evil)).found if tag == "img" or "onerror" in attributes]


@pytest.mark.parametrize("kind", KINDS)
def test_an_anonymous_page_names_nobody(kind: str) -> None:
    named, anonymous = (re.sub(r"base64,[^\"']*", "", render(all_pages(hidden)[kind])) for hidden in (False, True))
    assert "Smith" in named or kind == "plan"
    for secret in (*CASES, "Smith", "smith", "/home", "lost-"):
        assert secret not in anonymous


def test_anonymous_names_are_numbers_in_the_order_of_ids() -> None:
    names = names_for(["b", "a", "c"], anonymous=True)
    assert [names(case) for case in ("a", "b", "c", "unknown")] == ["case 1", "case 2", "case 3", "a case"]
    assert names_for(["b"], anonymous=False)("b") == "b"


def test_another_file_is_never_replaced(tmp_path: Path) -> None:
    page, path = Page("plan", "t", "s", ()), tmp_path / "report" / "plan.html"
    write_page(path, page)
    write_page(path, page)
    path.write_text("<html>mine</html>", encoding="utf-8")
    with pytest.raises(UsageError, match="not a report of autoseg"):
        write_page(path, page)
    assert path.read_text(encoding="utf-8") == "<html>mine</html>"


def test_commands_in_words_are_set_apart_and_the_words_stay_escaped() -> None:
    assert told("run `autoseg plan <DATA>` & `see`") == (
        "run <code>autoseg plan &lt;DATA&gt;</code> &amp; <code>see</code>"
    )
    assert told(f"`{EVIL}") == f"`{escape(EVIL)}"


def test_a_label_has_the_colour_of_its_place_in_the_training_page() -> None:
    record = epochs(1)[0]
    turned = [replace(record, patch_dice_per_label={"a": 0.1, "z": 0.9})] * 2
    settings = TrainSettings(epochs=5, learning_rate=0.01, weight_decay=0.0)
    page = training_page("t", turned, settings, {}, None, None, None, ("z", "a"), names_for((), False))
    html = render(page)
    assert html.index(">z</text>") < html.index(">a</text>") < html.index(">mean</text>")


def test_the_page_of_a_dataset_says_how_many_cases_it_leaves_out() -> None:
    assert "12 cases that can be used, 1 more with errors, 2 labels" in all_pages()["dataset"].subtitle


def test_the_page_of_a_dataset_leaves_cores_of_objects_out() -> None:
    counted = fingerprint().model_copy(update={"labels": with_cores(LABELS, ["liver"], 1.0)})
    page = dataset_page("counted", counted, (), Sample(), names_for((), False))
    assert "2 labels" in page.subtitle
    tables = [block for section in page.sections for block in section.blocks if isinstance(block, Table)]
    assert not any("liver core" in column for block in tables for column in block.columns)
    assert not any(cell.text == "liver core" for block in tables for row in block.rows for cell in row)


def test_the_facts_of_a_dataset_say_of_how_many_cases() -> None:
    (facts,) = (block for block in all_pages()["dataset"].sections[0].blocks if isinstance(block, Facts))
    assert dict(facts.members)["cases"] == "12 of 13"
    whole = dataset_page("whole", fingerprint(), (), Sample(), names_for((), False))
    (facts,) = (block for block in whole.sections[0].blocks if isinstance(block, Facts))
    assert dict(facts.members)["cases"] == "12"


def test_a_finding_names_its_file_as_the_terminal_does() -> None:
    findings = next(section for section in all_pages()["dataset"].sections if section.title == "Findings")
    (rows,) = (block for block in findings.blocks if isinstance(block, Table))
    assert rows.rows[1][3].text == "labelsTr/one-Smith.nii.gz: has no image"


def test_names_of_cases_stay_on_a_line_or_break_at_separators() -> None:
    assert called("scan_005").kind == "whole"
    long = "patient-0001_study-2020.03.04_a-very-long-series"
    assert called(long).kind == "name"
    html = render(Page("t", "t", "t", (Section("t", (table(("a", "case"), [[word("x"), called(long)]]),)),)))
    assert "patient-<wbr>0001_<wbr>study-<wbr>2020.<wbr>03.<wbr>04_<wbr>a-<wbr>very-<wbr>long-<wbr>series</td>" in html
    assert parted("a&b_<c>") == "a&amp;b_<wbr>&lt;c&gt;"


def test_boxes_are_spoken_of_only_where_there_are_some() -> None:
    for count, spoken in ((4, False), (12, True)):
        page = results_page("t", summary(CASES[:count]), (), (), None, None, {}, names_for(CASES, False))
        assert ("Boxes are quartiles" in render(page)) == spoken


def test_masks_without_an_image_say_how_to_get_one() -> None:
    shown = pictures(names_for((), False))
    alone = tuple(replace(picture, image=False) for picture in shown)
    for given, told_of in ((shown, False), (alone, True)):
        page = render(results_page("t", summary(), given, (), None, None, {}, names_for(CASES, False)))
        assert ("--images FOLDER" in page) == told_of
        assert ("Columns: image, reference" in page) != told_of


def review(trusts: dict[str, CaseTrust]) -> tuple[Table, str]:
    page = predictions_page("t", trusts, {}, (), ("liver",), {}, names_for((), False))
    section = next(section for section in page.sections if section.title == "To look at first")
    return next(block for block in section.blocks if isinstance(block, Table)), section.lead


def test_the_queue_shows_what_its_order_is_by_and_no_empty_column() -> None:
    seen = CaseEvidence(
        volumes={"liver": LabelVolume(voxels=9, ml=1.0, components=1)},
        evidence={"liver": LabelEvidence(confidence=0.876)},
    )
    rows, lead = review({"a": CaseTrust(seen=seen, reasons=("low",)), "b": CaseTrust(seen=seen)})
    assert rows.columns == ("place", "case", "confidence", "why")
    assert [cell.text for cell in rows.rows[1]] == ["2", "b", "0.88", ""]
    assert "lowest confidence" in lead
    known = CaseTrust(seen=seen, expected_mean=Expectation(dice=0.9, low=0.8, high=0.95), unlike=("far off",))
    rows, lead = review({"a": known, "b": CaseTrust(seen=seen)})
    assert rows.columns == ("place", "case", "expected Dice", "unlike the training data")
    assert [row[2].text for row in rows.rows] == ["0.90 (0.80 to 0.95)", "–"]
    assert "lowest expected Dice" in lead


def test_figures_are_sorted_as_figures_and_what_is_absent_says_so() -> None:
    assert (number(1234.5, 1).text, number(1234.5, 1).order) == ("1,234.5", 1234.5)
    assert number(None).order is None
    made = table(("a", "b"), [[number(1.0), word("x")], [number(None), word("y")]])
    assert made.right == (True, False)


def test_a_page_of_many_cases_and_labels_stays_small() -> None:
    cases = tuple(f"case_{number:04d}" for number in range(300))
    labels = tuple(f"structure_{number}" for number in range(60))
    page = results_page("many", summary(cases, labels), (), (), None, None, {}, names_for(cases, False))
    assert len(render(page).encode()) < 5_000_000


@pytest.mark.slow
def test_pages_of_thousands_of_cases_with_many_labels_stay_small() -> None:
    cases = tuple(f"patient_{number:05d}_from_the_other_hospital" for number in range(2500))
    names = names_for(cases, False)
    volume = LabelVolume(voxels=900, ml=1.8, components=1, border=("superior", "left"))
    evidence = LabelEvidence(confidence=0.91234, boundary=0.71234)
    labels = tuple(f"structure_{number}" for number in range(12))
    seen = CaseEvidence(evidence=dict.fromkeys(labels, evidence), volumes=dict.fromkeys(labels, volume))
    why = "low confidence at the boundary of structure_1 (0.52)"
    trusts = dict.fromkeys(cases, CaseTrust(seen=seen, reasons=(why, why, why)))
    spent = CaseCost(seconds={"read": 1.25, "network": 2.5, "write": 0.5}, peak_bytes={"main": 10**9, "device": 10**9})
    costs = dict.fromkeys(cases, spent)
    pages = {
        "masks": predictions_page("many", trusts, dict.fromkeys(cases, "cannot be read"), (), labels, costs, names),
        "results": results_page("many", summary(cases, labels), (), (), None, None, costs, names),
        "dataset": dataset_page("many", fingerprint(cases), (), Sample(), names),
    }
    sizes = {kind: len(render(page).encode()) for kind, page in pages.items()}
    assert max(sizes.values()) < 5_000_000, sizes


def test_pictures_of_noise_stay_small() -> None:
    noise = np.random.default_rng(0).normal(size=(40, 300, 300)).astype(np.float32)
    drawn = (noise > 1).astype(np.int32)
    shown = comparison(Look("noise", noise, drawn, (3.0, 1.0, 1.0), np.roll(drawn, 1, axis=2)), {"liver": (1,)})
    small = thumbnail(Look("noise", noise, drawn, (3.0, 1.0, 1.0)), {"liver": (1,)})
    assert (WORST + BEST) * len(shown.uri) < 4_000_000
    assert THUMBNAILS * len(small.uri) < 4_000_000


def test_time_and_memory_of_each_case_are_told() -> None:
    for kind in ("masks", "results"):
        (section,) = (section for section in all_pages()[kind].sections if section.title == "Time and memory")
        facts, rows = section.blocks
        assert isinstance(facts, Facts)
        assert isinstance(rows, Table)
        told = {"seconds per case, median": "9.25", "slowest case (s)": "14.25", "largest peak memory (GB)": "1.50"}
        assert dict(facts.members) == told
        assert [cell.text for cell in rows.rows[1]] == [CASES[1], "1.00", "3.00", "0.25", "4.25", "1.50"]
        assert "GPU (GB)" not in rows.columns
    gpu = {"a": CaseCost(seconds={"network": 1.0}, peak_bytes={"main": 10**9, "device": 2 * 10**9}), "b": CaseCost()}
    section = cost_section(gpu, names_for((), False))
    assert section is not None
    (rows,) = (block for block in section.blocks if isinstance(block, Table))
    assert [[cell.text for cell in row][-2:] for row in rows.rows] == [["1.00", "2.00"], ["–", "–"]]
    assert cost_section({}, names_for((), False)) is None


def test_the_worst_and_the_best_are_shown_once() -> None:
    worst, best = to_look_at(summary())
    assert [case.case for case in worst] == list(CASES[:4])
    assert [case.case for case in best] == [CASES[11], CASES[10]]
    only = summary().model_copy(update={"cases": summary().cases[:2]})
    assert [len(part) for part in to_look_at(only)] == [2, 0]


def test_the_csv_file_has_a_row_per_case_and_label() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(summary(), names_for(CASES, False)))))
    assert len(rows) == 2 * len(CASES)
    assert rows[0]["case"] == CASES[0]
    assert float(rows[0]["dice"]) == pytest.approx(0.4)


def test_a_case_far_from_the_others_is_marked() -> None:
    assert outliers(fingerprint()) == {CASES[3]: ("liver volume high: 4001 ml",)}
    assert far_out({str(number): 10.0 for number in range(7)} | {"odd": 1.0}) == {"odd": False}
    assert far_out({"a": 1.0, "b": 100.0}) == {}


def test_the_plan_draws_every_configuration_and_gives_every_reason() -> None:
    page = all_pages()["plan"]
    titles = [section.title for section in page.sections]
    html = render(page)
    assert {"2d", "3d_fullres", "Each number with its reason"} <= set(titles)
    assert html.count("<svg") == 4


def test_a_comparison_is_cut_through_the_place_that_is_asked_for_and_ticks_point_at_it() -> None:
    image = np.zeros((8, 20, 16), np.float32)
    image[5], image[1] = 100, 50
    mask = np.zeros(image.shape, np.int32)
    mask[1, 4:8, 4:8] = 1
    look = Look("a", image, mask, (1.0, 1.0, 1.0), np.zeros_like(mask))
    usual, there = (pixels_of(comparison(look, {"liver": (1,)}, at=at)) for at in (None, (5, 10, 8)))
    assert usual[30, 100].max() < 200 < there[30, 100].min()  # the axial plane of the errors, and the bright one
    ticked = pixels_of(comparison(look, {"liver": (1,)}, at=(5, 2, 8), ticks=True)).astype(int)
    yellow = (ticked[..., 0] > 150) & (ticked[..., 1] > 120) & (ticked[..., 2] < 100)
    rows = np.flatnonzero(yellow[:210, 23:35].sum(axis=1) > 5)
    assert len(rows)
    assert rows.mean() == pytest.approx(2 + 210 * (1 - 2.5 / 20), abs=3)  # rows count from below


def pixels_of(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))).convert("RGB"))
