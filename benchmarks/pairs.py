"""Pairs of sets of trainings, each judged alone: without a primary comparison, and not adjusted for the others."""

from xraygan.comparison import metrics, tables, verdict


def judge_pairs(predictions, pairs, setting, group_of):
    """The difference of each pair with its interval and outcome, by every primary metric.

    Args:
        predictions: {name: [table of predictions, one a replicate]}.
        pairs: list of (name, name).
        setting: `dataset.Setting`.
        group_of: Series of each file's group.

    Returns:
        list of rows: first, second, metric, what `verdict.estimate_difference` gives, and outcome.
    """
    judged, labels, groups = tables.judge_predictions(predictions, setting, group_of)
    rows = []
    for metric, arms in judged.items():
        for first, second in pairs:
            found = verdict.estimate_difference(arms, first, second, labels, groups, metrics.METRICS[metric])
            outcome = verdict.decide_outcome(found["difference"], found["p_value"], found["p_equivalent"])
            rows.append({"first": first, "second": second, "metric": metric} | found | {"outcome": outcome})
    return rows
