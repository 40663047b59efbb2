"""Optimizers, schedules and averaged weights under one rule: Dice of folds after the same wall time.

    python benchmarks/schedules.py DATASET --budget 300 --folder KEPT [--folds 1 2] [--only "AdamW, poly"]

Each is a plan of its own that differs from the preset's in these settings alone, trained by `autoseg train --budget`
(`trained.Rule`). Settings are chosen by other folds than the one whose figure is told, hence 1 and 2. Results are kept
in `--folder`, so that a long comparison can be made in parts; the table is printed as Markdown.
"""

from __future__ import annotations

import statistics

from trained import kept, rule_of, rule_parser

#: What is compared: the plan's name and the settings that make it. The preset for CPUs has AdamW, poly, and averaged
#: weights (0.99). An optimizer comes with its own rate, decay and warm-up; SGD's are nnU-Net's.
VARIANTS = {
    "AdamW, poly, averaged weights": ("adamw-poly", ()),
    "AdamW, poly, last weights": ("adamw-poly-last", ("ema_decay=0",)),
    "AdamW, wsd, averaged weights": ("adamw-wsd", ("schedule=wsd",)),
    "AdamW at a third of the rate, poly, averaged weights": ("adamw-slow", ("learning_rate=0.001",)),
    "SGD, poly, last weights": ("sgd-poly", ("optimizer=sgd", "ema_decay=0")),
    "SGD, poly, averaged weights": ("sgd-poly-averaged", ("optimizer=sgd",)),
}


def main() -> None:
    parser = rule_parser(__doc__, 300.0, VARIANTS)
    parser.add_argument("--folds", nargs="*", default=["1", "2"])
    options = parser.parse_args()
    rule = rule_of(options)
    print(f"{options.dataset.name}, {options.configuration}, {options.budget:.0f} s each\n")
    print(f"| what | {' | '.join(f'fold {fold}' for fold in options.folds)} | mean Dice | steps |")
    print(f"|---|{'---|' * len(options.folds)}---|---|")
    for what in options.only:
        name, settings = VARIANTS[what]
        words = [word for setting in settings for word in ("--set", setting)]
        rows = [kept(options.folder / f"{name}-{fold}.json", rule, name, words, fold) for fold in options.folds]
        failed = [str(row["failed"]) for row in rows if "failed" in row]
        if failed:
            print(f"| {what} | {failed[0]} |", flush=True)
            continue
        scores = [float(str(row["mean_dice"])) for row in rows]
        steps = " and ".join(str(row["steps"]) for row in rows)
        print(
            f"| {what} | {' | '.join(f'{score:.4f}' for score in scores)} | {statistics.mean(scores):.4f} | {steps} |"
        )


if __name__ == "__main__":
    main()
