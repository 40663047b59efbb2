"""Names and values of what is segmented."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from autoseg.records.base import MOST_LABELS, Record

#: Values of labels are below: what every file format and array type can hold.
LARGEST_VALUE = 2**31

#: Fields that labels without things do not have.
OF_THINGS = ("things", "core_margin_mm", "smallest_object_mm3")


class Labels(Record):
    """Names and values of the labels.

    `names` keeps the order of declaration; a region is a tuple of values. Values are those in the label files and
    need not be consecutive: inside the program they are indices into `values` (`encode` and `decode` in
    `arrays/labels.py` map between the two). They are 0 and above, since masks hold nothing else. The ignore label,
    which no mask holds, is not in `names` and may be negative.

    `things` are the labels whose objects are counted one by one, with the region of their cores inside each: a voxel of
    an object has one value in its border and another in its core, and `arrays.objects` finds the objects again. What is
    in no thing is stuff. `core_margin_mm` is how deep cores begin, see `arrays.cores`; what is smaller than
    `smallest_object_mm3` is no object.

    `regions_class_order` says which value each region writes into a mask, later ones over earlier ones (nnU-Net's
    rule). With regions and without it, each voxel gets the value that is most likely by the scores of all regions:
    the one with the largest sum of the scores of the regions it belongs to, which is 0 for the background.
    """

    names: dict[str, int | tuple[int, ...]]
    ignore: int | None = None
    regions_class_order: tuple[int, ...] | None = None
    things: dict[str, str] = Field(default_factory=dict)  # label -> region of its cores
    core_margin_mm: float | None = Field(default=None, ge=0)  # None without things
    smallest_object_mm3: float | None = Field(default=None, ge=0)  # None: every speck may be an object

    @model_serializer(mode="wrap")
    def _told(self, told: SerializerFunctionWrapHandler) -> dict[str, object]:
        # labels without things are told as they were before there were any: hashes of prepared cases stay valid
        fields: dict[str, object] = told(self)
        if not self.things:
            fields = {name: value for name, value in fields.items() if name not in OF_THINGS}
        return fields

    @field_validator("names", mode="before")
    @classmethod
    def _from_pairs(cls, names: object) -> object:
        if not isinstance(names, (list, tuple)):
            return names
        try:
            return dict(names)
        except (TypeError, ValueError):
            raise ValueError("labels are pairs of a name and a value") from None

    @field_serializer("names", when_used="json")
    def _as_pairs(self, names: dict[str, int | tuple[int, ...]]) -> list[tuple[str, int | tuple[int, ...]]]:
        # a list, since their order is the order of the network's outputs, and sorting a JSON object must not change it
        return list(names.items())

    @model_validator(mode="after")
    def _consistent(self) -> Labels:
        if self.names.get("background") != 0:
            raise ValueError("labels need an entry background: 0")
        if self.ignore is not None and self.ignore in self.values:
            raise ValueError(f"the ignore label {self.ignore} is also the value of another label")
        if (fault := self._fault_of_values()) is not None:
            raise ValueError(fault)
        if self.regions_class_order is not None and len(self.regions_class_order) != len(self.foreground):
            raise ValueError("regions_class_order needs exactly one value per region")
        if (fault := self._fault_of_things()) is not None:
            raise ValueError(fault)
        if len(self.values) > MOST_LABELS:
            raise ValueError(
                f"{len(self.values)} values are more than the {MOST_LABELS} that training labels can count"
            )
        return self

    def _fault_of_values(self) -> str | None:
        """A value that no mask can hold, in words."""
        told = [
            (f"label {name!r} has the value", member)
            for name, value in self.names.items()
            for member in (value if isinstance(value, tuple) else (value,))
        ]
        told += [("regions_class_order has the value", value) for value in self.regions_class_order or ()]
        for what, value in told:
            if value < 0:
                return (
                    f"{what} {value}, and masks hold values of 0 and above only: give it another value, here and in "
                    "the label files (only 'ignore' may be negative)"
                )
        ignored = [] if self.ignore is None else [("label 'ignore' has the value", self.ignore)]
        for what, value in (*told, *ignored):
            if abs(value) >= LARGEST_VALUE:
                return f"{what} {value}, which must be below {LARGEST_VALUE}"
        return None

    def _fault_of_things(self) -> str | None:
        """What is wrong with `things`, in words."""
        if bool(self.things) != (self.core_margin_mm is not None):
            return "things and the margin of their cores belong together"
        for name, core in self.things.items():
            border, members = self.names.get(name), self.names.get(core)
            if not isinstance(border, tuple) or len(border) != 2 or members != border[1]:
                return f"the thing {name!r} needs two values, the second of which is its core {core!r}"
        return None

    @property
    def has_regions(self) -> bool:
        """Whether any label is a list of more than one value (then outputs are sigmoids, one per region)."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.names.values())

    @property
    def values(self) -> tuple[int, ...]:
        """All values in use except ignore, ascending; their positions are the training labels."""
        found = {0}
        for value in self.names.values():
            found.update(value if isinstance(value, tuple) else (value,))
        return tuple(sorted(found))

    @property
    def ignore_index(self) -> int | None:
        """The training label of ignored voxels (one above all others), or None."""
        return None if self.ignore is None else len(self.values)

    @property
    def foreground(self) -> dict[str, tuple[int, ...]]:
        """Name to training labels (indices), of every label or region but the background, in order of declaration."""
        index = {value: position for position, value in enumerate(self.values)}
        entries = {}
        for name, value in self.names.items():
            members = value if isinstance(value, tuple) else (value,)
            if any(member != 0 for member in members):
                entries[name] = tuple(index[member] for member in members)
        return entries

    @property
    def heads(self) -> int:
        """Network outputs: one per region, or one per value including the background."""
        return len(self.foreground) if self.has_regions else len(self.values)

    @property
    def value_membership(self) -> NDArray[np.bool_]:
        """(V, R): whether each of `values` belongs to each label or region of `foreground`."""
        membership = np.zeros((len(self.values), len(self.foreground)), dtype=np.bool_)
        for region, members in enumerate(self.foreground.values()):
            membership[list(members), region] = True
        return membership

    @property
    def core_values(self) -> dict[int, int]:
        """For the value that borders of each thing have, and its objects in a user's files, the value of its cores."""
        pairs = (self.names[name] for name in self.things)
        return {pair[0]: pair[1] for pair in pairs if isinstance(pair, tuple)}

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Name to values of all that a user names: labels and regions, without the background and regions of cores."""
        cores = set(self.things.values())
        return {
            name: tuple(self.values[index] for index in members)
            for name, members in self.foreground.items()
            if name not in cores
        }

    @property
    def without_cores(self) -> Labels:
        """The labels as a user's files have them: objects have one value, whole."""
        cores = set(self.things.values())
        borders = {
            name: value[0] if name in self.things and isinstance(value, tuple) else value
            for name, value in self.names.items()
            if name not in cores
        }
        return Labels(names=borders, ignore=self.ignore) if self.things else self

    def drawn_names(self, annotated: Collection[str] | None) -> tuple[str, ...]:
        """Names of `foreground` that are known in a case in which only the labels `annotated` were drawn; None is all.

        A region that is the union of drawn labels is known too, and so are the cores of objects of a drawn label.
        """
        entries = {name: set(members) for name, members in self.foreground.items()}
        if annotated is None:
            return tuple(entries)
        named = {*annotated, *(core for thing, core in self.things.items() if thing in annotated)}
        drawn = [entries[name] for name in entries if name in named]
        return tuple(
            name
            for name, members in entries.items()
            if members == {member for part in drawn if part <= members for member in part}
        )

    def drawn_outputs(self, annotated: Collection[str] | None) -> tuple[bool, ...]:
        """For each network output whether it is known in such a case; the background of plain labels always is."""
        known = self.drawn_names(annotated)
        if self.has_regions:
            return tuple(name in known for name in self.foreground)
        members = {0, *(member for name in known for member in self.foreground[name])}
        return tuple(head in members for head in range(self.heads))
