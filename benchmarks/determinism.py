"""What it costs that the same seed gives the same numbers: an epoch of each training with deterministic operations and without.

python -m benchmarks.determinism       # a table, and results/published/benchmarks/determinism.csv

Both ways take turns, each time in a process of its own; the ratio is taken within a round, so a machine that slows down slows both.
"""

import argparse

import pandas as pd

from benchmarks import machine, pipeline
from xraygan import backend

NUM_ROUNDS = 5
NOT = ", not deterministic"


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    chosen = backend.configure()
    rows = []
    for part in ("classifier epoch", "GAN epoch"):
        for turn in range(NUM_ROUNDS):
            seconds = {
                name: pipeline.measure(name, chosen["precision"], pipeline.FEW)["seconds"] for name in (part, part + NOT)
            }
            rows.append({"part": part, "round": turn, "deterministic": seconds[part], "not_deterministic": seconds[part + NOT]})
    machine.publish(summarise(pd.DataFrame(rows)), "determinism", chosen)


def summarise(rounds):
    """The median seconds of each way, and the median of the ratios of deterministic to not, a row a part."""
    rounds = rounds.assign(ratio=rounds["deterministic"] / rounds["not_deterministic"])
    return rounds.groupby("part", sort=False)[["deterministic", "not_deterministic", "ratio"]].median().round(3).reset_index()


if __name__ == "__main__":
    main()
