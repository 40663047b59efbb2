"""What masks cost, as a part of a page: seconds by stage and peak memory of every case."""

from __future__ import annotations

from collections.abc import Mapping

from autoseg.records import CaseCost
from autoseg.report.page import Facts, Names, Section, beginning, called, number

_GB = 1e9

#: Stages of a case: key and what it is called.
_STAGES = (("read", "reading (s)"), ("network", "network (s)"), ("write", "writing (s)"))

_LEAD = (
    "Reading, network and writing go on side by side where there is memory for it. Peak memory is that of the program "
    "from the end of the case before to the end of this one's network, so it may hold parts of its neighbours."
)


def cost_section(costs: Mapping[str, CaseCost], names: Names) -> Section | None:
    """Time and memory of each case; None where nothing is known."""
    if not costs:
        return None
    main, device = (
        {case: cost.peak_bytes[kind] for case, cost in costs.items() if kind in cost.peak_bytes}
        for kind in ("main", "device")
    )
    spent = sorted(sum(cost.seconds.values()) for cost in costs.values())
    facts = [("seconds per case, median", f"{spent[len(spent) // 2]:.2f}"), ("slowest case (s)", f"{spent[-1]:.2f}")]
    facts += [("largest peak memory (GB)", f"{max(main.values()) / _GB:.2f}")] if main else []
    facts += [("of the GPU (GB)", f"{max(device.values()) / _GB:.2f}")] if device else []
    rows = [
        (
            called(names(case)),
            *(number(cost.seconds.get(key), 2) for key, _ in _STAGES),
            number(sum(cost.seconds.values()), 2),
            *(
                number(peaks[case] / _GB if case in peaks else None, 2)
                for peaks in ((main, device) if device else (main,))
            ),
        )
        for case, cost in costs.items()
    ]
    columns = [
        "case",
        *(title for _, title in _STAGES),
        "all (s)",
        "peak memory (GB)",
        *(["GPU (GB)"] if device else []),
    ]
    table = beginning(columns, rows, "of a run in costs.json, of masks in predictions.json.")
    return Section("Time and memory", (Facts(tuple(facts)), *table), _LEAD)
