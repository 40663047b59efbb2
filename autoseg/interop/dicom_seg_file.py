"""Masks as DICOM-SEG: a binary segment for each label, with coded terms and references to every slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg import __version__
from autoseg.arrays.labels import encode
from autoseg.dataset.colours import colour_of
from autoseg.dataset.dicom_settings import load_pydicom, own_settings
from autoseg.errors import UsageError
from autoseg.files import written_aside
from autoseg.interop.dicom_source import MAKER, Source, read_source, require_series
from autoseg.interop.label_codes import Code, coded
from autoseg.records import Case, Geometry, Labels


def check_dicom_seg(cases: Sequence[Case], labels: Labels) -> None:
    """Raise UsageError before anything runs: the extra is missing, or a case is no DICOM series."""
    _highdicom()
    require_series(cases, labels)


@own_settings()
def write_dicom_seg(path: Path, mask: NDArray[np.integer], geometry: Geometry, case: Case, labels: Labels) -> None:  # noqa: ARG001
    """Write a mask (Z, Y, X) of a DICOM series as DICOM-SEG; regions that overlap stay whole.

    Raises DatasetError where the series has nothing to refer to.
    """
    highdicom, pydicom = _highdicom(), load_pydicom()
    source = read_source(case.images[0])
    images = [_nameless(header) for header in source.headers.values()]
    pixels = _in_file_order(_segments(mask, labels), source)
    object_ = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(highdicom, labels),
        series_instance_uid=pydicom.uid.generate_uid(prefix=None),
        series_number=100,
        sop_instance_uid=pydicom.uid.generate_uid(prefix=None),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="1",
        content_label="AUTOSEG",
        content_description="Segmentation made by autoseg",
        omit_empty_frames=bool(pixels.any()),
    )
    object_.SpecificCharacterSet = "ISO_IR 192"
    for name in _NAMES:
        setattr(object_, name, source.first.get(name, ""))
    _add_sides(pydicom, object_, labels)
    with written_aside(path) as aside:
        object_.save_as(aside)


#: Names of persons. highdicom warns about unusual ones, and quotes them: it does not get to see them.
_NAMES = ("PatientName", "ReferringPhysicianName")


def _nameless(header: Any) -> Any:
    """A copy of a header without names of persons."""
    nameless = load_pydicom().Dataset()
    nameless.update(header)
    nameless.file_meta = header.file_meta
    nameless.pop("SpecificCharacterSet", None)
    nameless.SpecificCharacterSet = "ISO_IR 192"  # what was read is decoded; some files hold an empty one
    for name in _NAMES:
        nameless.pop(name, None)  # elements are shared with the header: this one must not be changed
        setattr(nameless, name, "")
    return nameless


def _highdicom() -> Any:
    load_pydicom()
    try:
        import highdicom
    except ImportError as error:
        raise UsageError(
            "DICOM-SEG needs highdicom, which is not installed",
            remedy="Install it in the clone's folder: pip install -c constraints.txt '.[dicom]'",
        ) from error
    return highdicom


def _segments(mask: NDArray[np.integer], labels: Labels) -> NDArray[np.unsignedinteger]:
    """Segment numbers (Z, Y, X), or one binary channel per segment (Z, Y, X, S) where labels share values."""
    members = list(labels.foreground.values())
    indices = encode(mask, labels)
    kind = np.uint8 if len(members) < 256 else np.uint16
    if len({one for group in members for one in group}) == sum(len(group) for group in members):
        table = np.zeros(len(labels.values), dtype=kind)
        for number, group in enumerate(members, start=1):
            table[list(group)] = number
        return np.asarray(table[indices], dtype=kind)
    return np.stack([np.isin(indices, group) for group in members], axis=-1).astype(np.uint8)


def _in_file_order(pixels: NDArray[np.unsignedinteger], source: Source) -> NDArray[np.unsignedinteger]:
    """Slices in the order of the files and of the frames in them."""
    if len(source.headers) == len(source.slices):
        return pixels
    order = sorted(range(len(source.slices)), key=lambda number: source.slices[number].frame)
    return pixels[order]


def _descriptions(highdicom: Any, labels: Labels) -> list[Any]:
    found = []
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MAKER,
        family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        version=__version__,
    )
    for number, (name, members) in enumerate(labels.foreground.items(), start=1):
        codes = coded(name)
        colour = np.array(colour_of(name, labels.values[members[0]]))
        found.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=_concept(highdicom, codes.category),
                segmented_property_type=_concept(highdicom, codes.type),
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                display_color=highdicom.color.CIELabColor.from_rgb(*(int(part) for part in colour)),
            )
        )
    return found


def _concept(highdicom: Any, code: Code) -> Any:
    return highdicom.sr.CodedConcept(code.value, "SCT", code.meaning)


def _add_sides(pydicom: Any, object_: Any, labels: Labels) -> None:
    """Left and right, as modifiers of the type."""
    for name, segment in zip(labels.foreground, object_.SegmentSequence, strict=True):
        side = coded(name).side
        if side is not None:
            item = pydicom.Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = side.value, "SCT", side.meaning
            segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [item]
