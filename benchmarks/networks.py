"""Every network by name under one rule: Dice of one fold after the same wall time, on the same cases and machine.

    python benchmarks/networks.py DATASET --budget 600 --folder KEPT [--configuration 2d] [--only unetpp mednext]

For each network: `autoseg plan --network NAME`, then `autoseg train --fold 0 --budget` (`trained.Rule`). GB is the
memory of the largest process at its peak. What a network cannot do is told, not left out. Results are kept in
`--folder`, so that a long comparison can be made in parts; the table is printed as Markdown.
"""

from __future__ import annotations

import json

from trained import kept, rule_of, rule_parser

from autoseg.networks.catalog import NETWORKS


def main() -> None:
    parser = rule_parser(__doc__, 600.0, NETWORKS)
    parser.add_argument("--fold", default="0")
    options = parser.parse_args()
    rule = rule_of(options)
    rows = {}
    for network in NETWORKS:
        path = options.folder / f"{network}-{options.configuration}.json"
        if network in options.only:
            rows[network] = kept(path, rule, network, ("--network", network), options.fold)
        elif path.exists():
            rows[network] = json.loads(path.read_text())
    print(f"{options.dataset.name}, fold {options.fold}, {options.configuration}, {options.budget:.0f} s each\n")
    print("| network | weights | patch | batch | steps | seconds a step | GB | seconds in all | mean Dice |")
    print("|---|---|---|---|---|---|---|---|---|")
    for network, row in rows.items():
        if "failed" in row:
            print(f"| `{network}` | {row['failed']} ||||||||")
            continue
        cells = (
            f"{row['weights'] / 1e6:.1f} M",
            *(row[name] for name in ("patch", "batch", "steps")),
            f"{row['step_seconds']:.3f}",
            f"{row['gigabytes']:.1f}",
            f"{row['seconds']:.0f}",
        )
        print(f"| `{network}` | {' | '.join(map(str, cells))} | {row['mean_dice']:.4f} |")


if __name__ == "__main__":
    main()
