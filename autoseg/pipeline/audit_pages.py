"""The page and the tables of an audit, made from its record and what is kept of each case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.orientation import oriented_index
from autoseg.dataset.instance_maps import whole_objects
from autoseg.dataset.label_files import read_reference
from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError, UsageError
from autoseg.files import read_record, write_text
from autoseg.pipeline.audit_evidence import Evidence, evidence_path, mask_values, read_evidence, training_labels
from autoseg.pipeline.looks import drawn_orientation, look_at, values_of
from autoseg.pipeline.pages import page_path
from autoseg.records import Audit, AuditedPlace, Case, Dataset, Labels
from autoseg.report.audit_csv import CASE_COLUMNS, PLACE_COLUMNS, cases_csv, places_csv
from autoseg.report.audit_page import audit_page, caption_of_case, caption_of_place
from autoseg.report.page import Names, Picture, names_for, require_own, write_page
from autoseg.report.pictures import comparison
from autoseg.report.slices import Look
from autoseg.workspace import Workspace

#: Cases and places that are shown, and places of one case among them.
CASES_SHOWN, PLACES_SHOWN, PLACES_OF_A_CASE = 20, 30, 3

#: Bytes that the pictures of cases, and those of places, take at most, so that a page of large images can be mailed.
MOST_BYTES = 2_000_000

#: A picture is worth making of what is at least so suspicious.
SHOWN_FROM = 0.5


def write_tables(work: Workspace, audit: Audit) -> tuple[Path, Path]:
    """cases.csv and places.csv in WORK/audit."""
    cases, places = work.audit / "cases.csv", work.audit / "places.csv"
    names = names_for([], anonymous=False)
    write_text(cases, cases_csv(audit, names))
    write_text(places, places_csv(audit, names))
    return cases, places


def require_own_tables(work: Workspace) -> None:
    """Raise UsageError where a file has the name of a table of ours and is none: it is kept."""
    for name, columns in (("cases.csv", CASE_COLUMNS), ("places.csv", PLACE_COLUMNS)):
        path = work.audit / name
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(",".join(columns)):
            raise UsageError("is not a table of autoseg's audit, so it is left alone", where=path, remedy="Move it.")


def audit_report(work: Workspace, *, anonymous: bool = False) -> Path:
    """The page of an audit."""
    path = page_path(work, work.audit / "audit.html", anonymous)
    require_own(path)
    audit, dataset = read_record(work.audit / "audit.json", Audit), read_record(work.dataset, Dataset)
    names = names_for([case.id for case in dataset.cases], anonymous)
    files = {case.id: case for case in dataset.cases}
    gallery = _Gallery(work, files, dataset.labels, names)
    worth = [case for case in audit.cases if case.suspicion >= SHOWN_FROM and case.places][:CASES_SHOWN]
    ranks = {case.case: rank for rank, case in enumerate(audit.cases, start=1)}
    cases = [(case.places[0], caption_of_case(case, ranks[case.case])) for case in worth]
    places = [(place, caption_of_place(place, rank)) for rank, place in _places_shown(audit)]
    labels = tuple(dataset.labels.without_cores.foreground)
    page = audit_page(audit, labels, gallery.pictures(cases), gallery.pictures(places, ticks=True), names)
    write_page(path, page)
    return path


def _places_shown(audit: Audit) -> list[tuple[int, AuditedPlace]]:
    """The first places with their ranks; of one case no more than a few."""
    shown: list[tuple[int, AuditedPlace]] = []
    often: dict[str, int] = {}
    for rank, place in enumerate(audit.places, start=1):
        often[place.case] = often.get(place.case, 0) + 1
        if place.suspicion >= SHOWN_FROM and often[place.case] <= PLACES_OF_A_CASE:
            shown.append((rank, place))
    return shown[:PLACES_SHOWN]


class _Gallery:
    """Makes pictures of cases, reading each case once in a row."""

    def __init__(self, work: Workspace, files: dict[str, Case], labels: Labels, names: Names) -> None:
        self._work, self._files, self._labels, self._names = work, files, labels, names
        self._last: tuple[str, Evidence, Look] | None = None

    def pictures(self, wanted: list[tuple[AuditedPlace, str]], *, ticks: bool = False) -> tuple[Picture, ...]:
        """Cuts through places, as many as have room; what cannot be read any more is left out."""
        found: list[Picture] = []
        room = MOST_BYTES
        for picture in self._made(wanted, ticks):
            room -= len(picture.uri)
            if room < 0:
                break
            found.append(picture)
        return tuple(found)

    def _made(self, wanted: list[tuple[AuditedPlace, str]], ticks: bool) -> Iterator[Picture]:
        for place, caption in wanted:
            try:
                seen, look = self._looked_at(place.case)
            except AutosegError:
                continue
            i, j, k = place.index
            at = oriented_index((k, j, i), seen.geometry.shape, drawn_orientation(seen.geometry))
            yield comparison(look, values_of(self._labels.without_cores), caption, at=at, ticks=ticks)

    def _looked_at(self, case: str) -> tuple[Evidence, Look]:
        if self._last is None or self._last[0] != case:
            seen = read_evidence(evidence_path(self._work, case), case, "", None)
            if seen is None or case not in self._files:
                raise AutosegError("nothing is kept of it", where=case)
            self._last = (case, seen, self._look(seen))
        return self._last[1], self._last[2]

    def _look(self, seen: Evidence) -> Look:
        case = self._files[seen.case]
        reference: NDArray[np.generic] = whole_objects(read_reference(case, self._labels)[0], self._labels).labels
        if reference.shape != seen.geometry.shape:
            raise AutosegError("its reference has another shape than it had", where=seen.case)
        truth = training_labels(case, self._labels)
        if not np.array_equal(truth.reshape(-1)[seen.said.index], seen.said.truth):
            raise AutosegError("its reference was changed since", where=seen.case)
        mask = mask_values(truth, seen.said, self._labels.without_cores)
        image = read_image(case.images).image[0]
        return look_at(self._names(seen.case), image, mask, seen.geometry, reference)
