"""SNOMED CT codes of labels, by their names, for DICOM-SEG.

Codes are facts of the terminology (DICOM PS3.16, CID 7150 to 7192, lists those that segmentations use). A label whose
name is not here gets a generic code, which says no more than that it is tissue: 3D Slicer does the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded term: value and meaning; the scheme is SCT."""

    value: str
    meaning: str


@dataclass(frozen=True)
class CodedLabel:
    """What a label is: its category, its type and, of what exists twice, the side."""

    category: Code
    type: Code
    side: Code | None = None
    generic: bool = False  # whether nothing is known by that name


ANATOMICAL = Code("91723000", "Anatomical Structure")
ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "Tissue")
LEFT, RIGHT = Code("7771000", "Left"), Code("24028007", "Right")

GENERIC = CodedLabel(TISSUE, TISSUE, generic=True)

#: Type by the words of a label's name, without a side, in small letters.
ANATOMY: Mapping[str, Code] = {
    "liver": Code("10200004", "Liver"),
    "spleen": Code("78961009", "Spleen"),
    "kidney": Code("64033007", "Kidney"),
    "pancreas": Code("15776009", "Pancreas"),
    "gallbladder": Code("28231008", "Gallbladder"),
    "stomach": Code("69695003", "Stomach"),
    "duodenum": Code("38848004", "Duodenum"),
    "small bowel": Code("30315005", "Small Intestine"),
    "small intestine": Code("30315005", "Small Intestine"),
    "colon": Code("71854001", "Colon"),
    "adrenal gland": Code("23451007", "Adrenal gland"),
    "adrenal": Code("23451007", "Adrenal gland"),
    "urinary bladder": Code("89837001", "Urinary Bladder"),
    "bladder": Code("89837001", "Urinary Bladder"),
    "prostate": Code("41216001", "Prostate"),
    "heart": Code("80891009", "Heart"),
    "left ventricle": Code("87878005", "Left Ventricle"),
    "right ventricle": Code("53085002", "Right Ventricle"),
    "left atrium": Code("82471001", "Left Atrium"),
    "right atrium": Code("73829009", "Right Atrium"),
    "lung": Code("39607008", "Lung"),
    "trachea": Code("44567001", "Trachea"),
    "esophagus": Code("32849002", "Esophagus"),
    "oesophagus": Code("32849002", "Esophagus"),
    "aorta": Code("15825003", "Aorta"),
    "inferior vena cava": Code("64131007", "Inferior vena cava"),
    "portal vein": Code("32764006", "Portal vein"),
    "hepatic vein": Code("8993003", "Hepatic vein"),
    "thyroid": Code("69748006", "Thyroid"),
    "brain": Code("12738006", "Brain"),
    "hippocampus": Code("5366008", "Hippocampus"),
    "spinal cord": Code("2748008", "Spinal cord"),
    "optic nerve": Code("18234004", "Optic nerve"),
    "optic chiasm": Code("244453006", "Optic chiasm"),
    "parotid": Code("45289007", "Parotid Gland"),
    "parotid gland": Code("45289007", "Parotid Gland"),
    "larynx": Code("4596009", "Larynx"),
    "mandible": Code("91609006", "Mandible"),
    "femur": Code("71341001", "Femur"),
    "humerus": Code("85050009", "Humerus"),
    "sternum": Code("56873002", "Sternum"),
    "scapula": Code("79601000", "Scapula"),
    "sacrum": Code("54735007", "Sacrum"),
    "bone": Code("272673000", "Bone"),
    "vertebra": Code("51282000", "Vertebra"),
}

#: What is no part of a healthy body.
ABNORMALITIES: Mapping[str, Code] = {
    "tumour": Code("108369006", "Neoplasm"),
    "tumor": Code("108369006", "Neoplasm"),
    "neoplasm": Code("108369006", "Neoplasm"),
    "lesion": Code("52988006", "Lesion"),
    "cyst": Code("367643001", "Cyst"),
    "edema": Code("79654002", "Edema"),
    "oedema": Code("79654002", "Edema"),
    "necrosis": Code("6574001", "Necrosis"),
}

_VERTEBRAE = {
    "c1": "14806007", "c2": "39976000", "c3": "113205007", "c4": "5329002", "c5": "36978003", "c6": "36054005",
    "c7": "87391001", "t1": "64864005", "t2": "53733008", "t3": "1626008", "t4": "73071006", "t5": "56401006",
    "t6": "45296009", "t7": "62487009", "t8": "11068009", "t9": "82687006", "t10": "7610001", "t11": "12989004",
    "t12": "23215003", "l1": "66794005", "l2": "14293000", "l3": "36470004", "l4": "11994002", "l5": "49668003",
}  # fmt: skip

_SIDES = {"left": LEFT, "l": LEFT, "lt": LEFT, "right": RIGHT, "r": RIGHT, "rt": RIGHT}
_PLURALS = {"lungs": "lung", "kidneys": "kidney", "vertebrae": "vertebra", "bones": "bone", "lesions": "lesion"}


def coded(name: str) -> CodedLabel:
    """The codes of a label by its name ("kidney_left", "Left Kidney", "vertebrae_L3"); GENERIC for unknown names."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [_PLURALS.get(word, word) for word in re.split(r"[\W_]+", spaced.casefold()) if word]
    whole = " ".join(words)
    if whole in ANATOMY:  # the left ventricle is no ventricle on the left
        return CodedLabel(ANATOMICAL, ANATOMY[whole])
    if "vertebra" in words:
        level = next((word for word in words if word in _VERTEBRAE), None)
        if level is not None and len(words) == 2:
            return CodedLabel(ANATOMICAL, Code(_VERTEBRAE[level], f"{level.upper()} vertebra"))
    side = next((_SIDES[word] for word in words if word in _SIDES), None)
    rest = [word for word in words if word not in _SIDES]
    reordered = " ".join(sorted(rest))
    for table, category in ((ANATOMY, ANATOMICAL), (ABNORMALITIES, ABNORMAL)):
        for known, code in table.items():
            if " ".join(sorted(known.split())) == reordered:
                return CodedLabel(category, code, side)
    abnormal = [ABNORMALITIES[word] for word in rest if word in ABNORMALITIES]
    if len(abnormal) == 1:  # "liver tumour", "enhancing tumor": the kind is told, the place is not
        return CodedLabel(ABNORMAL, abnormal[0], side)
    return GENERIC
