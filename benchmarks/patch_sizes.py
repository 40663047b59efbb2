"""Patch sizes under one rule: Dice of a fold after the same wall time, on the same cases and machine.

    python benchmarks/patch_sizes.py DATASET PATCH [PATCH ...] --budget 1200 --folder KEPT [--fold 1]

A PATCH is what `autoseg plan --set patch_size=` takes (`96,96,96`), or `planned` for the one that the preset plans;
levels, features and all else follow from it. Each is trained by `autoseg train --budget` (`trained.Rule`). Sizes are
chosen by other folds than the one whose figure is told, hence 1. Results are kept in `--folder`, so that a long
comparison can be made in parts; the table is printed as Markdown.
"""

from __future__ import annotations

from trained import kept, rule_of, rule_parser

#: Stands for the patch of the preset.
PLANNED = "planned"


def main() -> None:
    parser = rule_parser(__doc__, 1200.0, ())
    parser.add_argument("patches", nargs="+", metavar="PATCH")
    parser.add_argument("--fold", default="1")
    options = parser.parse_args()
    rule = rule_of(options)
    print(f"{options.dataset.name}, fold {options.fold}, {options.configuration}, {options.budget:.0f} s each\n")
    print("| patch | batch | weights | steps | seconds a step | mean Dice |")
    print("|---|---|---|---|---|---|")
    for patch in options.patches:
        name = f"patch-{patch.replace(',', 'x')}"
        words = () if patch == PLANNED else ("--set", f"patch_size={patch}")
        row = kept(options.folder / f"{name}-{options.fold}.json", rule, name, words, options.fold)
        if "failed" in row:
            print(f"| {patch} | {row['failed']} |||||", flush=True)
            continue
        millions = float(str(row["weights"])) / 1e6
        cells = (row["patch"], row["batch"], f"{millions:.1f} M", row["steps"], f"{row['step_seconds']:.3f}")
        print(f"| {' | '.join(map(str, cells))} | {row['mean_dice']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
