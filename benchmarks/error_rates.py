"""How often the verdict errs, on simulated studies whose truth is known.

python -m benchmarks.error_rates          # a table, and results/published/benchmarks/error_rates.csv

A simulated study has four arms, R replicates, and test images of two classes. What a model answers to an image is a score: how easy the image
is, how easy its patient is, how easy both are for this arm, how this replicate of this arm turned out, and chance. How much each of these counts
is measured on the first published study's predictions (benchmarks/variance_parts.py); in each regime one of them counts for more. Where the truth is that arms are equal, intervals should cover 0 in 95 of 100 studies, and "better" should hardly ever be said.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

import utils
from benchmarks import machine
from xraygan import keys
from xraygan.comparison import metrics, verdict

ARMS = ("nothing", "oversampling", "on_the_fly", "gan")
REPLICATES = (3, 5, 10, 24)
STUDIES = 2000


@dataclass(frozen=True)
class Regime:
    """Where scores come from: standard deviations of each source, in units of a score's own, and what the test set is like.

    The defaults are those of the first published study with 115 real images of the minority class.

    Attributes:
        ease: mean score of an image, positive where it's right.
        threshold: how much more readily a replicate of an arm calls an image ill.
        replicate: how much better a replicate of an arm turned out, for all images alike.
        image: how easy an image is for every arm.
        arm_image: how easy an image is for one arm.
        patient, arm_patient: the same of a patient.
        rest: of one image, arm and replicate.
        images_a_patient: images of one patient.
        in_both_classes: whether each patient has as many images in the other class too.
        share_drawn: the share of the patients that each replicate draws for its test part; 1 takes the same for all.
        images: test images of each class.
        spread_of_gan: how many times as much the GAN's replicates vary as those of other arms.
    """

    ease: float = 1.47
    threshold: float = 0.25
    replicate: float = 0.07
    image: float = 0.87
    arm_image: float = 0.16
    patient: float = 0.0
    arm_patient: float = 0.0
    rest: float = 0.39
    images_a_patient: int = 1
    in_both_classes: bool = False
    share_drawn: float = 1.0
    spread_of_gan: float = 1.0
    images: int = 120


# The first published study with 25 real images of the minority class, and a test part that each replicate draws anew as the second study does.
FEW_PATIENTS = Regime(
    ease=1.06, threshold=0.23, replicate=0.20, image=0.73, arm_image=0.25, rest=0.56, share_drawn=0.5, images=400
)
REGIMES = {
    "trainings differ more": Regime(replicate=0.3, threshold=0.4),
    "remedies differ by image": Regime(arm_image=0.8),
    "more chance": Regime(rest=1.2),
    # Its three classes; their scores have longer tails, so the mean is chosen that gets as many right, 97.5 %.
    "near the ceiling": Regime(ease=1.96, threshold=0.13, replicate=0.17, image=0.89, arm_image=0.19, rest=0.36, images=400),
    "patients with four images": Regime(patient=0.6, arm_patient=0.8, image=0.5, images_a_patient=4),
    "patients of both classes": Regime(patient=0.6, arm_patient=0.8, image=0.5, in_both_classes=True),
    "few patients, test drawn anew": FEW_PATIENTS,
    "one remedy varies more": Regime(replicate=0.15, spread_of_gan=2.0),
}
EFFECTS = (0.1, 0.2, 0.3, 0.5)  # of the GAN's mean score


def simulate(regime, num_replicates, rng, better=None):
    """One study: {metric: {arm: `verdict.Judged`}}, labels and groups.

    Args:
        regime: `Regime`.
        num_replicates: R.
        rng: random generator.
        better: {arm: how much larger its mean score is}.
    """
    sick = np.repeat([False, True], regime.images)
    groups = np.arange(len(sick)) // regime.images_a_patient
    if regime.in_both_classes:
        groups = groups % (groups.max() // 2 + 1)
    num_patients = groups.max() + 1
    num_drawn = round(regime.share_drawn * num_patients)
    patients_in_test = np.array([rng.permutation(num_patients) < num_drawn for _ in range(num_replicates)])
    of_image = regime.image * rng.standard_normal(len(sick)) + regime.patient * rng.standard_normal(num_patients)[groups]
    judged = {}
    for arm in ARMS:
        spread = (regime.spread_of_gan if arm == "gan" else 1) * rng.standard_normal((2, num_replicates, 1))
        scores = regime.ease + (better or {}).get(arm, 0.0) + of_image
        scores = scores + regime.arm_image * rng.standard_normal(len(sick))
        scores = scores + regime.arm_patient * rng.standard_normal(num_patients)[groups]
        scores = scores + regime.replicate * spread[0] + regime.threshold * spread[1] * np.where(sick, 1, -1)
        scores = scores + regime.rest * rng.standard_normal((num_replicates, len(sick)))
        judged[arm] = judge_arm(np.where(sick, scores, -scores), sick, patients_in_test[:, groups])
    by_metric = {metric: {arm: judged[arm][metric] for arm in ARMS} for metric in verdict.PRIMARY_METRICS}
    return by_metric, np.where(sick, "sick", "healthy"), groups


def judge_arm(outputs, sick, in_test):
    """{metric: `verdict.Judged`} of one arm, from outputs `(R, N)` that are positive where an image is called sick."""
    influence = {metric: np.full(outputs.shape, np.nan) for metric in verdict.PRIMARY_METRICS}
    scores = {metric: np.empty(len(outputs)) for metric in influence}
    same = in_test.all()  # then one call for all replicates will do
    for number in [slice(None)] if same else range(len(outputs)):
        chosen = slice(None) if same else in_test[number]
        row, positive = outputs[number][..., chosen], sick[chosen]
        for metric, judge in {"auroc": judge_ranking, "balanced_accuracy": judge_calls}.items():
            score, added = judge(row, positive)
            scores[metric][number] = score
            influence[metric][number, chosen] = added
    return {metric: verdict.Judged(scores[metric], influence[metric]) for metric in influence}


def judge_ranking(outputs, positive):
    """AUROC `(…)` and each image's influence `(…, N)`."""
    ranks = stats.rankdata(outputs, axis=-1)[..., positive]
    num_positive, num_negative = positive.sum(), (~positive).sum()
    auroc = (ranks.sum(axis=-1) - num_positive * (num_positive + 1) / 2) / num_positive / num_negative
    return auroc, metrics.rank_influence(outputs, positive)


def judge_calls(outputs, positive):
    """Balanced accuracy `(…)` and each image's influence `(…, N)`."""
    right, influence = ((outputs > 0) == positive).astype(float), np.empty(np.shape(outputs))
    shares = []
    for members in (positive, ~positive):
        share = right[..., members].mean(axis=-1, keepdims=True)
        influence[..., members] = (right[..., members] - share) / members.sum() / 2
        shares.append(share[..., 0])
    return np.mean(shares, axis=0), influence


def count_errors(regime, num_replicates, num_studies, seed=0):
    """How often the primary contrasts' intervals cover the truth and "better" is said, where no arm is meant to differ.

    Returns:
        a dict for each metric: `coverage`, `better` (of a contrast), `any_better` (of a study, over both metrics and contrasts), and
        `half_width` of the intervals, their median. The truth is 0; where one arm varies more it is the mean of all studies, since
        variation costs that arm a little.
    """
    rng = np.random.default_rng([seed, num_replicates])
    tables = []
    for study in range(num_studies):
        judged, labels, groups = simulate(regime, num_replicates, rng)
        table = verdict.reach_verdict({"study": judged}, {"study": labels}, {"study": groups}, "study")
        tables.append(table[table["primary"]].assign(study=study))
    rows = pd.concat(tables)
    truth = rows.groupby(["metric", "first"])["difference"].transform("mean") if regime.spread_of_gan != 1 else 0.0
    rows["covers"] = (rows["low"] <= truth) & (truth <= rows["high"])
    rows["better"] = rows["outcome"] == verdict.BETTER
    rows["half_width"] = (rows["high"] - rows["low"]) / 2
    any_better = rows.groupby("study")["better"].any().mean()
    return [
        {"metric": metric, "coverage": found["covers"].mean(), "better": found["better"].mean(), "any_better": any_better}
        | {"half_width": found["half_width"].median()}
        for metric, found in rows.groupby("metric")
    ]


def measure_power(num_replicates, effect, num_studies, seed=0):
    """How often each primary contrast is called "better" where the GAN's mean score is `effect` higher, and by how much it then is better."""
    rng, tables = np.random.default_rng([seed, num_replicates]), []
    for _ in range(num_studies):
        judged, labels, groups = simulate(FEW_PATIENTS, num_replicates, rng, better={"gan": effect})
        table = verdict.reach_verdict({"study": judged}, {"study": labels}, {"study": groups}, "study")
        tables.append(table[table["primary"]])
    rows = pd.concat(tables)
    rows["found"] = rows["outcome"] == verdict.BETTER
    means = rows.groupby("metric")[["difference", "found"]].mean().reset_index()
    return means.assign(replicates=num_replicates, effect=effect, studies=num_studies).to_dict("records")


def describe_code():
    """A hash of everything that decides the tables."""
    code = [verdict.reach_verdict, metrics.rank_influence, simulate, judge_arm, count_errors, measure_power]
    judged_by = [(metrics.METRICS[name].margin, metrics.METRICS[name].is_ranking) for name in verdict.PRIMARY_METRICS]
    return keys.digest(keys.describe([code, judged_by, list(REGIMES.values()), EFFECTS]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    options = parser.parse_args()
    combinations = [(name, number) for name in REGIMES for number in REPLICATES]
    rows = []
    for name, number in utils.progress(combinations, desc="regimes", unit="regime"):
        for row in count_errors(REGIMES[name], number, options.studies):
            rows.append({"regime": name, "replicates": number, "studies": options.studies} | row)
    table = pd.DataFrame(rows).round(4).assign(code=describe_code())
    print(table.drop(columns="code").to_string(index=False))
    utils.write_table(table, machine.PUBLISHED / "error_rates.csv")
    combinations = [(number, effect) for number in REPLICATES for effect in EFFECTS]
    rows = []
    for number, effect in utils.progress(combinations, desc="power", unit="effect"):
        rows += measure_power(number, effect, options.studies // 4)
    power = pd.DataFrame(rows).round(4).assign(code=describe_code())
    print(power.drop(columns="code").to_string(index=False))
    utils.write_table(power, machine.PUBLISHED / "power.csv")


if __name__ == "__main__":
    main()
