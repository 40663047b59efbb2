from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.label_values import labels_from_files, numbered_labels
from autoseg.errors import DatasetError


def test_values_are_numbered_and_named() -> None:
    assert numbered_labels([7, 0, 2], Path()).names == {"background": 0, "label_2": 2, "label_7": 7}


@pytest.mark.parametrize("value", [-3, 2**31])
def test_a_value_that_no_mask_holds_is_named_with_the_folder(value: int, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"{tmp_path.name}: label 'label_{value}' has the value {value}"):
        numbered_labels([1, value], tmp_path)


def test_files_with_values_that_are_too_large_are_an_error_of_ours(save_nifti, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.full((2, 3, 4), 2**31, dtype=np.uint32))
    with pytest.raises(DatasetError, match="must be below 2147483648"):
        labels_from_files([path], tmp_path)
