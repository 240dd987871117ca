"""Where patients are few: what the comparison says, in sentences and in one figure."""

import matplotlib.pyplot as plt
import pandas as pd

from xraygan.comparison import exchange, scarcity
from xraygan.comparison import verdict as verdicts
from xraygan.comparison.arms import write_arm
from xraygan.comparison.metrics import METRICS
from xraygan.report import figures, findings


def describe(found):
    """What remedies are worth where patients are few, as Markdown; `found` is `scarcity.Scarcity`, also as it is read from files."""
    is_finished, lines, scores = found.contrasts is not None, [], scarcity.tabulate_scores(found.trainings)
    if not is_finished:
        lines.append(
            f"**Not finished: {found.state['finished']} of {found.state['asked']} trainings. These are the numbers so far, and no verdict.**"
        )
    for num_real, rows in found.worth.groupby("num_real"):
        remedies = {row.arm: row for row in rows.itertuples() if row.arm not in scarcity.NO_REMEDIES}
        answer = _describe_fakes(num_real, remedies.pop("gan", None), found.curve)
        answer = f"**{answer}**" if is_finished else answer
        others = "; ".join(f"{write_arm(arm)} {write_equal(row, found.curve)}" for arm, row in remedies.items())
        lines.append(f"{answer} With the same {num_real} images, the simple remedies reach the AUROC of: {others}.")
    if is_finished and found.worth_of_curve is not None:
        lines += _describe_curves_own(found)
    lines.append("Where further real images hardly raise the AUROC, these numbers are vague: the figure shows it.")
    if is_finished:
        contrasts = findings.list_rows(found.contrasts)
        lines += [findings.describe_answer(contrasts), *findings.describe_power(contrasts), *_describe_disagreements(scores)]
        lines.append("\n".join(findings.describe_other_contrasts(contrasts)))
    return "\n\n".join([*lines, _write_scores(scores)])


def describe_published(folder):
    """What the published study of few images says, as Markdown, from its tables."""
    found = scarcity.read(folder)
    return describe(found) if found else "The study is declared, and nothing of it is trained yet."


def _describe_disagreements(scores):
    """Where both ways to predict a class disagree about whether fakes are better, a sentence each; `scores` is `scarcity.tabulate_scores`."""
    lines = []
    for num_real, rows in scores.set_index("arm").groupby("num_real"):
        for first, second in verdicts.PRIMARY_CONTRASTS[::-1]:
            if {first, second} <= set(rows.index):
                by_shares, by_likeliest = (rows.loc[second, name] - rows.loc[first, name] for name in scarcity.SCORES[1:])
                if by_shares * by_likeliest < 0:
                    lines.append(
                        f"With {num_real} images the two ways to predict a class disagree about fakes against {findings.OTHERS[first]}: in "
                        f"balanced accuracy they differ by {findings.write_points(by_shares)} points where probabilities are divided by the "
                        f"class shares, and by {findings.write_points(by_likeliest)} by the likeliest class."
                    )
    return lines


def _write_scores(scores):
    """Means over replicates, with the median in parentheses, as a table in Markdown; `scores` is `scarcity.tabulate_scores`."""
    words = [METRICS[name].words for name in scarcity.SCORES]
    rows = [["real images of patients", "remedy", "replicates", *(f"{name}, mean (median)" for name in words)]]
    rows.append(["---"] * len(rows[0]))
    for row in scores.to_dict(orient="records"):
        cells = [f"{row[name]:.3f} ({row[f'{name}_median']:.3f})" for name in scarcity.SCORES]
        rows.append([str(row["num_real"]), write_arm(row["arm"]), str(row["replicates"]), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _describe_curves_own(found):
    """What remedies equal in the curve's own replicates: a sentence for each number of images at which an arm has more replicates."""
    lines, in_all = [], found.worth.groupby("num_real")["replicates"].max()
    for num_real, rows in found.worth_of_curve.groupby("num_real"):
        count = rows["replicates"].max()
        if count < in_all[num_real]:
            remedies = rows[~rows["arm"].isin(scarcity.NO_REMEDIES)].itertuples()
            equal = "; ".join(f"{write_arm(row.arm)} {write_equal(row, found.curve)}" for row in remedies)
            lines.append(f"With {num_real} images, from only the {count} replicates that have a learning curve: {equal}.")
    return lines


def _describe_fakes(num_real, row, curve):
    """What fakes are worth, a sentence, from a row of `exchange.tabulate_worth`; None where there are none yet."""
    if row is None:
        return f"With {num_real} real images of patients, there are no numbers of fakes yet."
    return f"{num_real} real images of patients and the fakes made from them reach the AUROC of {write_equal(row, curve)}."


def write_equal(row, curve):
    """How many real images alone give the score of an arm, in words, with the interval where there is one.

    Args:
        row: of `exchange.tabulate_worth`.
        curve: the trainings of the learning curve; nothing is known before its first number and beyond its last.
    """
    first, last = curve["num_real"].min(), curve["num_real"].max()

    def write(further, about=""):
        number = round(row.num_real + further)
        return f"{number:,} or fewer" if number <= first else f"{number:,} or more" if number >= last else f"{about}{number:,}"

    interval = "" if pd.isna(row.worth_low) else f" (95 % interval {write(row.worth_low)} to {write(row.worth_high)})"
    return f"{write(row.worth, 'about ')} real images alone{interval}"


def show(found, study):
    """Draw what remedies are worth and write it to images/RUN/; `found` is `scarcity.Scarcity`."""
    figure = draw(found.worth, found.curve, study.title("how many real images a remedy equals"))
    return figures.save_figure(figure, study.folders.images / "scarcity.png")


def draw_published(folder):
    """The same of a published study, from its tables; None where there are none yet."""
    found = scarcity.read(folder)
    if found is None:
        return None
    title = "real radiographs: how many real images a remedy equals"
    if found.contrasts is None:
        title += f"\n{found.state['finished']} of {found.state['asked']} trainings are finished, no verdict yet"
    return draw(found.worth, found.curve, title)


def draw(worth, curve, title):
    """The learning curve of real images alone, each remedy's score beside it, and how many real images alone give that score.

    Args:
        worth: `exchange.tabulate_worth`.
        curve: trainings of the arm "nothing": columns num_real and auroc.
        title: of the figure.
    """
    worth = worth[~worth["arm"].isin(scarcity.NO_REMEDIES)]
    figure, axes = plt.subplots(1, 2, figsize=(figures.WIDE, 2.6 + 0.34 * len(worth)), width_ratios=(1.15, 1))
    _draw_learning_curve(axes[0], worth, curve)
    _draw_equal_numbers(axes[1], worth, curve)
    for axis in axes:
        axis.set_xscale("log")
        numbers = sorted(curve["num_real"].unique())
        axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axis.minorticks_off()
    figure.suptitle(title)
    return figure


def _draw_learning_curve(axis, worth, curve):
    points = exchange.pair_curve(curve)
    colour, marker = figures.choose_look("nothing")
    fitted = exchange.fit_curve(curve)
    axis.plot(fitted.index, fitted, color=colour, linewidth=2, label="real images alone (± 2 standard errors)")
    axis.errorbar(
        *(points.columns, points.mean(), 2 * points.sem().fillna(0)),
        fmt=marker,
        color=colour,
        capsize=3,
    )
    labelled = set()
    for _, rows in worth.groupby("num_real"):
        for place, row in enumerate(rows.itertuples()):
            colour, marker = figures.choose_look(row.arm)
            label = None if row.arm in labelled else f"with {write_arm(row.arm)}"
            labelled.add(row.arm)
            # Beside each other, since remedies at one number may score alike.
            axis.plot(row.num_real * 1.08 ** (place + 1), row.level, marker, color=colour, markersize=8, label=label)
    begun_with = " or ".join(f"{number:,}" for number in worth["num_real"].unique())
    axis.set(
        xlabel="real images of patients in training",
        ylabel="AUROC on test patients",
        title=f"AUROC with real images alone (line), and with\n{begun_with} and a remedy (marks, moved right)",
    )
    axis.legend(loc="lower right", fontsize=9)


def _draw_equal_numbers(axis, worth, curve):
    """A row a remedy and number of real images, the fewest on top: the number on the learning curve with the same score."""
    for height, row in zip(range(len(worth) - 1, -1, -1), worth.itertuples(), strict=True):
        colour, marker = figures.choose_look(row.arm)
        if pd.notna(row.worth_low):
            axis.hlines(height, row.num_real + row.worth_low, row.num_real + row.worth_high, color=colour, linewidth=2)
        axis.plot(row.num_real + row.worth, height, marker, color=colour, markersize=8, clip_on=False, zorder=3)
        axis.plot([row.num_real] * 2, [height - 0.4, height + 0.4], color="black", linewidth=2)
    axis.set_yticks(range(len(worth) - 1, -1, -1), [f"{row.num_real} + {write_arm(row.arm)}" for row in worth.itertuples()])
    axis.set_xlim(curve["num_real"].min() * 0.8, curve["num_real"].max() * 1.25)
    axis.set(
        xlabel="real images alone that score the same",
        title="real images alone with the same AUROC\n(95 % interval; black: the real images used)",
    )
