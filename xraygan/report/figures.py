"""Every chart and small table of the notebooks: two widths, one colour an arm, readable in grey."""

import functools
import inspect
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Code
from sklearn import metrics as sk

import utils
from xraygan import disk
from xraygan.comparison.arms import write_arm
from xraygan.comparison.metrics import METRICS
from xraygan.gan import fidelity
from xraygan.gan.losses import LOSSES
from xraygan.report.findings import write_setting

WIDE, NARROW = 10.0, 5.0  # inches
COLOURS = {"before": "#4c72b0", "after": "#c44e52", "train": "#8c8c8c", "validation": "#2a6f4e"}
ARM_LOOKS = {  # colour and marker, the same in every figure that tells arms apart
    "nothing": (COLOURS["before"], "o"),
    "class_weights": ("#937860", "P"),
    "oversampling": ("#dd8452", "s"),
    "classical": ("#55a868", "D"),
    "gan": (COLOURS["after"], "^"),
    "gan_and_classical": ("#8172b3", "v"),
    "classical_without_flip": ("#64b5cd", "X"),
    "on_the_fly": ("#da8bc3", "p"),
    "more_real": ("#1a1a1a", "h"),
}
OTHER_LOOK = ("#4d4d4d", "*")  # of an arm that isn't among them
STYLES = {"before": "-", "after": "--"}  # tells the arms apart in grey

plt.rcdefaults()  # a matplotlibrc of one's own may ask for LaTeX
plt.rcParams["text.parse_math"] = False  # a class may be called A$_$
plt.rcParams.update(
    {"figure.dpi": 80, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
)
plt.rcParams.update({"grid.alpha": 0.3, "figure.constrained_layout.use": True})


def choose_look(arm):
    """Colour and marker of an arm."""
    return ARM_LOOKS.get(arm, OTHER_LOOK)


def save_figure(figure, path):
    """Write a figure as PNG, whole or not at all, and return it for display."""
    with disk.replacing(path) as draft:
        figure.savefig(draft, format="png")
    return figure


def show_source(*functions):
    """The source of functions, as Python shows it."""
    return Code("\n\n".join(textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions), language="python")


def draw_training(histories, title):
    """Loss and accuracy by epoch, training thin and validation thick; the kept epoch of each model is marked.

    Args:
        histories: {"before": DataFrame, …} with columns epoch, loss, val_loss, accuracy, val_balanced_accuracy.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDE, 3.4))
    for arm, history in histories.items():
        best = history.loc[history["val_loss"].idxmin()]
        for axis, metric, validated in zip(axes, ("loss", "accuracy"), ("val_loss", "val_balanced_accuracy"), strict=True):
            look = {"color": COLOURS[arm], "linestyle": STYLES[arm]}
            axis.plot(history["epoch"], history[metric], linewidth=0.8, alpha=0.6, label=f"{arm}, training", **look)
            axis.plot(history["epoch"], history[validated], linewidth=2, label=f"{arm}, validation", **look)
            axis.plot(best["epoch"], best[validated], "o", color=COLOURS[arm], markeredgecolor="black")
    axes[0].set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
    for write_labels in (axes[0].yaxis.set_major_formatter, axes[0].yaxis.set_minor_formatter):
        write_labels("{x:g}")  # matplotlib's own labels of such an axis are formulas
    axes[1].set(xlabel="epoch", ylabel="accuracy (validation: balanced)")
    axes[1].legend(loc="lower right")
    figure.suptitle(f"{title}\n● epoch with the best validation loss, whose weights are kept")
    return figure


def draw_confusion(predictions, classes, title):
    """Counts of true class (rows) against predicted class (columns), a panel a model; `predictions` is {arm: table}."""
    panel = 3.0 + 0.4 * max(0, len(classes) - 2)
    figure, axes = plt.subplots(
        1, len(predictions), figsize=(max(NARROW, panel * len(predictions) + 0.6), panel + 0.5), squeeze=False
    )
    for axis, (arm, table) in zip(axes[0], predictions.items(), strict=True):
        counts = sk.confusion_matrix(table["label"], table["prediction"], labels=list(classes))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            axis.text(
                column,
                row,
                f"{count}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
                fontsize=13,
            )
        axis.set(
            xticks=range(len(classes)),
            yticks=range(len(classes)),
            xlabel="predicted",
            ylabel="true",
            title=f"{arm} ({len(table)} images)",
        )
        axis.set_xticklabels(classes, rotation=30 if len(classes) > 3 else 0)
        axis.set_yticklabels(classes)
        axis.grid(False)
    figure.suptitle(title)
    return figure


def draw_curves(predictions, minority, title):
    """ROC and precision-recall curves of the minority class against the rest; `predictions` is {arm: table}."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDE, 3.8))
    for arm, table in predictions.items():
        positive, probability = table["label"] == minority, table["probability"]
        false_positives, true_positives, _ = sk.roc_curve(positive, probability)
        precision, recall, _ = sk.precision_recall_curve(positive, probability)
        look = {"color": COLOURS[arm], "linestyle": STYLES[arm], "linewidth": 2}
        axes[0].plot(
            false_positives, true_positives, label=f"{arm}, area {sk.auc(false_positives, true_positives):.3f}", **look
        )
        axes[1].plot(recall, precision, label=f"{arm}, average {sk.average_precision_score(positive, probability):.3f}", **look)
    axes[0].plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axes[1].axhline(positive.mean(), linestyle=":", color="grey", label="chance")
    axes[0].set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
    axes[1].set(xlabel="sensitivity (recall)", ylabel="precision", title="precision and recall", ylim=(0, 1.03))
    for axis in axes:
        axis.legend(loc="lower center" if axis is axes[1] else "lower right")
    figure.suptitle(title)
    return figure


def draw_gan_losses(history, loss_name, title):
    """Both losses by epoch, with the discriminator's value at chance where its loss has one."""
    figure, axis = plt.subplots(figsize=(WIDE, 3.2))
    axis.plot(history["epoch"], history["d_loss"], color=COLOURS["train"], label="discriminator")
    axis.plot(history["epoch"], history["g_loss"], color=COLOURS["after"], linestyle="--", label="generator")
    at_chance = LOSSES[loss_name].at_chance
    if at_chance is not None:
        axis.axhline(at_chance, linestyle=":", color="black", label=f"discriminator at chance ({at_chance:.2f})")
    axis.set(xlabel="epoch", ylabel=f"{loss_name} loss", title=title)
    axis.legend()
    return figure


def draw_fidelity(table_file, other_class, kept_epoch, title):
    """Kernel distance to validation images by epoch, and how varied the fakes are.

    Args:
        table_file: CSV of `dcgan.FidelityCurve`.
        other_class: such a row of another class.
        kept_epoch: the epoch whose generator is kept.
    """
    table = utils.read_table(table_file)
    figure, axes = plt.subplots(1, 2, figsize=(WIDE, 3.4))
    last = table["epoch"].max()
    for space, colour, style in (("classifier", COLOURS["before"], "-"), ("random", COLOURS["after"], "--")):
        name = f"kid_{space}"
        axes[0].plot(table["epoch"], table[name], color=colour, linestyle=style, linewidth=2, label=f"{space} features")
        axes[0].axhline(
            other_class[name], color=colour, linestyle=style, linewidth=0.7, label=f"{space} features, another class"
        )
    kept = table.loc[table["epoch"] == kept_epoch, "kid"]
    axes[0].plot(kept_epoch, kept, "o", color="white", markeredgecolor="black", label=f"kept: epoch {kept_epoch}, mean of both")
    axes[0].axhline(0, color="grey", linewidth=0.8)
    axes[0].set(xlabel="epoch", ylabel="KID", title="distance (lower is better; held-out real images: 0)")
    axes[0].set_ylim(top=1.8 * axes[0].get_ylim()[1])  # room for the legend, above all lines
    axes[0].legend(loc="upper right", fontsize=9)
    axes[1].plot(table["epoch"], table["diversity"], color="black")
    for height, meaning in ((1, "held-out real"), (fidelity.COLLAPSED, "collapse")):
        axes[1].axhline(height, color="grey", linestyle=":")
        axes[1].annotate(meaning, (last, height), ha="right", va="bottom", color="grey")
    axes[1].set(xlabel="epoch", ylabel="diversity", title="how far apart the fakes are", ylim=(0, None))
    figure.suptitle(title)
    return figure


def tabulate_brightness(images_by_kind):
    """Mean brightness, contrast and range of the pixels of {kind: `uint8` images}, 0 to 255, a row a kind."""
    return pd.DataFrame({kind: _describe_greys(images) for kind, images in images_by_kind.items()}).T.round(1)


def _describe_greys(images):
    """From how often each grey occurs: the pixels of many images, as decimal numbers, fill the memory."""
    greys, counts = np.arange(256), sum(np.bincount(image.ravel(), minlength=256) for image in images)
    mean = np.average(greys, weights=counts)
    darkest, brightest = np.quantile(greys, [0.01, 0.99], weights=counts, method="inverted_cdf")
    return {
        "mean": mean,
        "standard deviation": np.sqrt(np.average((greys - mean) ** 2, weights=counts)),
        "darkest 1 %": darkest,
        "brightest 1 %": brightest,
    }


def list_layers(model):
    """What a reader must see of a network: layer, output shape, parameters, a row each."""
    rows = [
        {
            "layer": f"{layer.__class__.__name__}",
            "output": " × ".join(str(size) for size in layer.output.shape[1:]),
            "parameters": layer.count_params(),
        }
        for layer in model.layers
    ]
    rows.append({"layer": "total", "output": "", "parameters": model.count_params()})
    return pd.DataFrame(rows)


def summarise_arms(table, maker="GAN"):
    """The means over replicates, a row an arm of a setting with so many images added.

    Args:
        table: `tables.tabulate_units`.
        maker: what makes the fakes, see `study.Study.maker`.
    """
    scores = ["balanced_accuracy", "sensitivity", "auroc"]
    means = table.groupby(["setting", "arm", "extra_images"], sort=False)[["updates", "best_update", *scores]].mean()
    means = means.reset_index("extra_images")
    shown = means.round(dict.fromkeys(scores, 3)).astype({"extra_images": int, "updates": int, "best_update": int})
    shown = shown.rename(index=functools.partial(write_arm, maker=maker), level="arm").rename(
        index=write_setting, level="setting"
    )
    words = {"extra_images": "images added", "best_update": "best update"} | {name: METRICS[name].words for name in scores}
    return shown.rename(columns=words).rename_axis(["", "remedy"])


def draw_arms(table, title, maker="GAN"):
    """Balanced accuracy of every arm, a dot a seed and a bar for their mean, a panel a setting; `table` and `maker` as in `summarise_arms`."""
    settings = list(dict.fromkeys(table["setting"]))
    names = list(dict.fromkeys(table["arm"]))[::-1]
    size = (WIDE, 0.42 * len(names) + 1.3)
    figure, axes = plt.subplots(1, len(settings), figsize=size, squeeze=False, sharey=True)
    for axis, setting in zip(axes[0], settings, strict=True):
        for row, name in enumerate(names):
            values = table.loc[(table["setting"] == setting) & (table["arm"] == name), "balanced_accuracy"].astype(float)
            colour, marker = choose_look(name)
            axis.plot(values, [row] * len(values), marker, color=colour, alpha=0.6)
            axis.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color="black", linewidth=2)
        axis.set(xlabel="balanced accuracy on test images", title=write_setting(setting))
    axes[0, 0].set_yticks(range(len(names)), [write_arm(name, maker) for name in names])
    figure.suptitle(f"{title}\n│ mean; the axis doesn't begin at 0")
    return figure


def draw_contrasts(verdict, title, maker="GAN"):
    """Every contrast's difference and interval in points, a panel a metric, its margin shaded; primary ones are drawn thick.

    Args:
        verdict: `verdict.reach_verdict`.
        title: of the figure.
        maker: what makes the fakes, see `study.Study.maker`.
    """
    metrics = list(dict.fromkeys(verdict["metric"]))
    title += " (too few replicates for intervals)" if verdict["low"].isna().all() else ", with 95 % intervals"
    size = (WIDE, 0.32 * len(verdict) / len(metrics) + 1.6)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True)
    for axis, metric in zip(axes[0], metrics, strict=True):
        shown = verdict[verdict["metric"] == metric].iloc[::-1].reset_index(drop=True)
        _draw_differences(axis, shown, METRICS[metric])
        names = [
            f"{write_arm(row.second, maker)} − {write_arm(row.first, maker)}, {write_setting(row.setting)}"
            for row in shown.itertuples()
        ]
        axis.set_yticks(range(len(shown)), names)
    figure.suptitle(f"{title}\nright of 0: the first named is better; shaded: too small to matter; diamond: named beforehand")
    return figure


def _draw_differences(axis, rows, metric):
    axis.axvspan(-100 * metric.margin, 100 * metric.margin, color="grey", alpha=0.15, linewidth=0)
    axis.axvline(0, color="grey", linewidth=0.8)
    for row in rows.itertuples():
        colour = COLOURS["after"] if row.primary else "black"
        if pd.notna(row.low):
            axis.hlines(row.Index, 100 * row.low, 100 * row.high, color=colour, linewidth=3 if row.primary else 1.2)
        axis.plot(100 * row.difference, row.Index, "D" if row.primary else "o", color=colour)
    axis.set(xlabel=f"difference of {metric.words}, points", ylim=(-0.7, len(rows) - 0.3))


def draw_fakes_sweep(table, title, maker="GAN"):
    """Balanced accuracy against the number of fakes: a line through the means of the seeds, a dot a seed; arguments as in `summarise_arms`."""
    figure, axis = plt.subplots(figsize=(WIDE * 0.7, 3.6))
    counts = sorted(table["extra_images"].unique())
    for arm, rows in table.groupby("arm", sort=False):
        colour, marker = choose_look(arm)
        means = rows.groupby("extra_images")["balanced_accuracy"].mean()
        axis.plot(
            [counts.index(count) for count in means.index], means, color=colour, marker=marker, label=write_arm(arm, maker)
        )
        places = [counts.index(count) for count in rows["extra_images"]]
        axis.plot(places, rows["balanced_accuracy"], ".", color=colour, markeredgecolor="white", markersize=9)
    axis.set_xticks(range(len(counts)), counts)
    axis.set(xlabel="fakes added", ylabel="balanced accuracy", title=title)
    axis.legend()
    return figure


def show_fakes_sweep(table, study):
    """Draw the sweep over numbers of fakes and write it beside its table."""
    utils.write_table(table, study.folders.results / "sweep_number_of_fakes.csv")
    figure = draw_fakes_sweep(table, study.title("number of fakes"), study.maker)
    return save_figure(figure, study.folders.images / "sweep_number_of_fakes.png")


def draw_feature_plane(points, share, title):
    """Images as points in the plane where the real ones vary most; `points` and `share` are of `inspection.map_features`.

    Far images aren't drawn, since one of them would press all others into a corner: those further outside the middle nine tenths, in either
    direction, than these are wide. The title counts them.
    """
    places = np.concatenate(list(points.values()))
    low, high = np.quantile(places, [0.05, 0.95], axis=0)
    is_near = {kind: np.all((2 * low - high <= some) & (some <= 2 * high - low), axis=1) for kind, some in points.items()}
    num_far = sum(int(np.sum(~near)) for near in is_near.values())
    figure, axis = plt.subplots(figsize=(WIDE * 0.7, 5))
    looks = (COLOURS["train"], ".", 5), (COLOURS["before"], "o", 5), (COLOURS["after"], "x", 6)
    for (kind, some), (colour, marker, size) in zip(points.items(), looks, strict=False):
        axis.plot(*some[is_near[kind]].T, marker, color=colour, markersize=size, alpha=0.6, label=f"{kind} ({len(some)})")
    left_out = f"; {num_far} of {len(places)} lie too far out to be drawn" if num_far else ""
    title = f"{title}\nthese two directions hold {share:.0%} of the variance of real images{left_out}"
    axis.set(xlabel="first direction", ylabel="second direction", title=title)
    axis.legend()
    return figure
