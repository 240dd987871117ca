"""Are the fakes any good? Distances between sets of images, in two feature spaces that need no download.

Every number is shown between two others: the *floor*, real against held-out real, and the *ceiling*, another class and noise.
"""

import keras
import numpy as np
import pandas as pd
from keras import layers
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import utils
from xraygan import training
from xraygan.data import split
from xraygan.gan.memorisation import draw_at_most

MOST = 2000  # images of a set that are judged by, drawn at random where there are more: time and memory grow with their square
NEIGHBOURS = 5  # k of precision, recall, density and coverage, as Naeem et al. 2020 recommend
EXACT = {"dtype": "float32"}  # differences between neighbouring pixels drown in bfloat16
COLLAPSED = 0.25  # fakes that lie less than a quarter as far apart as real images: a few pictures, repeated


# Feature spaces


def random_network(image_size=utils.IMAGE_SIZE, seed=0):
    """Features that no label trained: random convolutions on a Laplacian pyramid, so that blur counts as much as layout.

    Naeem et al. 2020 (arXiv:2002.09797, section 4) show that random features rank generators where trained ones don't
    fit the data; the pyramid's bands are those of Karras et al. 2018 (arXiv:1710.10196, section 5).

    Args:
        image_size: pixels a side.
        seed: of the weights, which never change.

    Returns:
        model: float `(B, S, S, 1)` in 0 to 1 → float32 `(B, 4096)`.
    """
    rng = np.random.default_rng(seed)
    image = x = keras.Input((image_size, image_size, 1))
    bands = []
    for _ in range(3):
        half = layers.AveragePooling2D(2, **EXACT)(x)
        doubled = layers.UpSampling2D(2, interpolation="bilinear", **EXACT)(half)
        bands.append(layers.Subtract(**EXACT)([x, doubled]))
        x = half
    features = [_randomly_seen(band, rng) for band in (*bands, x)]  # 128, 64, 32 and 16 pixels of 128
    return keras.Model(image, layers.Concatenate(**EXACT)(features), name="random")


def _randomly_seen(x, rng):
    """Two random convolutions (He et al. 2015) and the mean over each of 4×4 places."""
    for filters in (32, 64):
        convolution = layers.Conv2D(filters, 3, 2 if x.shape[1] > 8 else 1, "same", activation="relu", **EXACT)
        x = convolution(x)
        kernel = rng.standard_normal(convolution.kernel.shape)
        convolution.set_weights([kernel * np.sqrt(2 / np.prod(kernel.shape[:3])), np.zeros(filters)])
    return layers.Flatten(**EXACT)(layers.AveragePooling2D(x.shape[1] // 4, **EXACT)(x))


def classifier_network(classifier):
    """What a classifier's last layer takes: images `(B, S, S, 1)` in 0 to 1 → features `(B, D)`."""
    return keras.Model(classifier.inputs[0], classifier.layers[-1].input, name="classifier")


class FeatureSpace:
    """A network whose features are standardised on the training images."""

    def __init__(self, network, training_images):
        """
        Args:
            network: images in 0 to 1 → features; its name is the space's.
            training_images: `uint8 (N, S, S, 1)`, real, of the class that is imitated.
        """
        self.name, self.network = network.name, network
        features = self._raw(training_images)
        spread = features.std(axis=0)
        self.used = spread > 1e-3 * spread.max()  # a unit that never fires tells nothing
        self.mean, self.spread = features[:, self.used].mean(axis=0), spread[self.used]

    def __call__(self, images):
        """Features `float64 (N, D)` of `uint8 (N, S, S, 1)`, about zero mean and unit variance for images like the training ones."""
        return (self._raw(images)[:, self.used] - self.mean) / self.spread

    def _raw(self, images, batch_size=128):
        missing = -len(images) % batch_size  # batches of one size are compiled once
        padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
        batches = [
            self.network.predict_on_batch(utils.to_unit(padded[start : start + batch_size]))
            for start in range(0, len(padded), batch_size)
        ]
        return np.concatenate(batches)[: len(images)].astype(np.float64)


# Distances between two sets of features


def kernel_distance(real, fake, confidence=0.95):
    """Kernel Inception Distance of Bińkowski et al. 2018 (arXiv:1801.01401), unbiased, on any features; 0 for equal distributions.

    The squared maximum mean discrepancy of the kernel (x·y / (|x| |y|) + 1)³: features are brought to one length, since without it
    a few outliers, cubed, decide every distance. The interval is the jackknife's (Arvesen 1969): each image is left out once, and
    the variances of both samples add up.

    Args:
        real, fake: features `(N, D)` and `(M, D)`, at least three rows each.

    Returns:
        (distance, low, high).

    Raises:
        ValueError: fewer than three rows.
    """
    if min(len(real), len(fake)) < 3:
        raise ValueError(f"a distance needs at least 3 images on each side, got {len(real)} and {len(fake)}.")
    inside_real, inside_fake, across = _kernel(real, real), _kernel(fake, fake), _kernel(real, fake)
    n, m = across.shape
    np.fill_diagonal(inside_real, 0)
    np.fill_diagonal(inside_fake, 0)
    rows_real, rows_fake = inside_real.sum(axis=1), inside_fake.sum(axis=1)
    sum_real, sum_fake, sum_across = rows_real.sum(), rows_fake.sum(), across.sum()
    term_real, term_fake = sum_real / (n * (n - 1)), sum_fake / (m * (m - 1))
    distance = term_real + term_fake - 2 * sum_across / (n * m)
    without_real = (
        (sum_real - 2 * rows_real) / ((n - 1) * (n - 2)) + term_fake - 2 * (sum_across - across.sum(axis=1)) / ((n - 1) * m)
    )
    without_fake = (
        (sum_fake - 2 * rows_fake) / ((m - 1) * (m - 2)) + term_real - 2 * (sum_across - across.sum(axis=0)) / (n * (m - 1))
    )
    variance = (n - 1) * without_real.var() + (m - 1) * without_fake.var()
    reach = stats.t.ppf((1 + confidence) / 2, min(n, m) - 1) * np.sqrt(variance)
    return float(distance), float(distance - reach), float(distance + reach)


def _kernel(first, second):
    lengths = [np.linalg.norm(features, axis=1, keepdims=True).clip(1e-9) for features in (first, second)]
    return ((first / lengths[0]) @ (second / lengths[1]).T + 1) ** 3


def precision_recall_density_coverage(real, fake, k=NEIGHBOURS):
    """Do fakes lie where real images lie, and does every real image have fakes about it?

    Precision and recall of Kynkäänniemi et al. 2019 (arXiv:1904.06991), density and coverage of Naeem et al. 2020
    (arXiv:2002.09797). Comparable only at equal numbers of images.

    Args:
        real, fake: features `(N, D)` and `(M, D)`, more than `k` rows each.

    Returns:
        dict of `precision`, `recall`, `coverage` (0 to 1) and `density` (0 and up, about 1 for equal distributions).

    Raises:
        ValueError: too few rows.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"precision and recall need more than {k} images on each side, got {len(real)} and {len(fake)}.")
    return _score_neighbours(cdist(real, real), cdist(fake, fake), cdist(real, fake), k)


def _score_neighbours(among_real, among_fake, between, k=NEIGHBOURS):
    """The same from distances: `(N, N)`, `(M, M)` and `(N, M)`."""
    radius_real, radius_fake = (np.partition(among, k, axis=1)[:, k] for among in (among_real, among_fake))  # column 0: itself
    inside_real = between <= radius_real[:, None]
    return {
        "precision": float(inside_real.any(axis=0).mean()),
        "recall": float((between <= radius_fake).any(axis=1).mean()),
        "density": float(inside_real.sum(axis=0).mean() / k),
        "coverage": float((between.min(axis=1) <= radius_real).mean()),
    }


def _distance_to_neighbour(features, k):
    return np.partition(cdist(features, features), k, axis=1)[:, k]  # column 0 is the image itself


def diversity(real, fake):
    """How far a fake is from the fake most like it, relative to real images: about 1 is as varied, 0 is all the same.

    Args:
        real, fake: features `(N, D)` and `(M, D)`; compared at equal numbers, the first of each.
    """
    size = min(len(real), len(fake))
    apart = [np.median(_distance_to_neighbour(features[:size], 1)) for features in (real, fake)]
    return float(apart[1] / apart[0])


# What the notebooks show


def make_judge(classifier, training_images, held_out):
    """A `Judge`, or None where there are too few training or held-out images to judge by; then a sentence says so."""
    if min(len(training_images), len(held_out)) >= split.FEWEST_JUDGED:
        return Judge(classifier, training_images, held_out)
    print(
        f"{len(training_images)} training and {len(held_out)} held-out images are too few to judge the fakes by numbers (at least {split.FEWEST_JUDGED} each)."
    )
    return None


class Judge:
    """Compares sets of images with held-out real ones, in every space.

    Attributes:
        spaces: list of `FeatureSpace`.
        held_out: {space: features of the held-out real images}.
        made_from: a hash of all that decides its distances.
    """

    def __init__(self, classifier, training_images, held_out):
        """
        Args:
            classifier: the baseline CNN.
            training_images: `uint8 (N, S, S, 1)`, what the GAN sees.
            held_out: the same class, never seen by the GAN: validation while choosing, test once, at the end.

        Of more than `MOST` images of either a draw is used.
        """
        training_images, held_out = draw_at_most(training_images, MOST), draw_at_most(held_out, MOST)
        networks = classifier_network(classifier), random_network(training_images.shape[1])
        self.spaces = [FeatureSpace(network, training_images) for network in networks]
        self.held_out = {space.name: space(held_out) for space in self.spaces}
        weights = map(keras.ops.convert_to_numpy, classifier.weights)
        self.made_from = training.fingerprint(*weights, training_images, held_out)

    def distances(self, images):
        """A row of the curve by epoch: kernel distance in each space, and how varied the images are.

        Args:
            images: `uint8 (N, S, S, 1)`.

        Returns:
            dict of `kid_SPACE`; `kid`, their mean; and `diversity`.
        """
        features = {space.name: space(images) for space in self.spaces}
        distances = {name: kernel_distance(self.held_out[name], features[name])[0] for name in features}
        varied = diversity(self.held_out["random"], features["random"])
        return {f"kid_{name}": value for name, value in distances.items()} | {
            "kid": float(np.mean(list(distances.values()))),
            "diversity": varied,
        }

    @staticmethod
    def has_collapsed(now, before):
        """Whether a generator that was varied no longer is, by two values of `diversity`."""
        return now < COLLAPSED <= before

    def table(self, image_sets, seed=0):
        """Every measure of every set in every space.

        Args:
            image_sets: {name: `uint8 (N, S, S, 1)`}, e.g. the fakes, other real images (floor), another class and noise (ceiling).
                A set of too few images is left out, and a sentence says so.
            seed: of the draws that bring every set to one size for precision, recall, density and coverage.

        Returns:
            DataFrame, a row a set and space; `held_out` and `judged` are the numbers of images that were compared, at most `MOST` each.
        """
        for name in [name for name, images in image_sets.items() if len(images) < split.FEWEST_JUDGED]:
            print(
                f"{len(image_sets[name])} images are too few to judge by (at least {split.FEWEST_JUDGED}): {name} is left out."
            )
        image_sets = {
            name: draw_at_most(images, MOST) for name, images in image_sets.items() if len(images) >= split.FEWEST_JUDGED
        }
        rng = np.random.default_rng(seed)
        rows = []
        for space in self.spaces:
            real = self.held_out[space.name]
            among_real = cdist(real, real)
            size = min(len(real), *(len(images) for images in image_sets.values()))
            for name, images in image_sets.items():
                features = space(images)
                distance, low, high = kernel_distance(real, features)
                among_features, between, draws = cdist(features, features), cdist(real, features), []
                for _ in range(10):
                    one, other = (rng.permutation(len(rows_of))[:size] for rows_of in (real, features))
                    distances = among_real[np.ix_(one, one)], among_features[np.ix_(other, other)], between[np.ix_(one, other)]
                    draws.append(_score_neighbours(*distances))
                row = {"images": name, "space": space.name, "kid": distance, "low": low, "high": high}
                rows.append(row | pd.DataFrame(draws).mean().to_dict() | {"held_out": len(real), "judged": len(images)})
        return pd.DataFrame(rows)

    def tell_real_from_fake(self, fake):
        """Classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545): can a small classifier tell fake from held-out real?

        Logistic regression on the random features, cross-validated five-fold, as many fakes as there are real images.

        Args:
            fake: `uint8 (N, S, S, 1)`; of more than `MOST` a draw is used.

        Returns:
            dict of `accuracy` (0.5 where it can't), `low`, `high` (approximate 95 % interval: that of a binomial, though the five classifiers
            share training images) and `images`.
        """
        space = next(space for space in self.spaces if space.name == "random")
        real, fake = self.held_out["random"], space(draw_at_most(fake, MOST))
        size = min(len(real), len(fake))
        rng = np.random.default_rng(0)
        features = np.concatenate([_pick(real, size, rng), _pick(fake, size, rng)])
        truth = np.repeat([0, 1], size)
        order = rng.permutation(len(truth))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        right = cross_val_predict(model, features[order], truth[order], cv=5) == truth[order]
        interval = stats.binomtest(int(right.sum()), len(right)).proportion_ci()
        return {
            "accuracy": float(right.mean()),
            "low": float(interval.low),
            "high": float(interval.high),
            "images": len(right),
        }


def _pick(features, size, rng):
    return features[rng.permutation(len(features))[:size]]


def format_table(table):
    """`Judge.table` (or its CSV) as a reader wants it: a row for each space and set, the distance with its interval."""
    shown = table[["space", "images"]].rename(columns={"space": "features"})
    shown["KID (95 % interval)"] = [f"{row.kid:.3f} ({row.low:.3f} to {row.high:.3f})" for row in table.itertuples()]
    for measure in ("precision", "recall", "density", "coverage"):
        shown[measure] = table[measure].map("{:.2f}".format)
    shown["images compared"], shown["test images"] = (table[name].map("{:,}".format) for name in ("judged", "held_out"))
    return shown.sort_values("features", kind="stable").set_index(["features", "images"])


def draw_uniform(num_images, image_size=utils.IMAGE_SIZE):
    """The other end of the scale: `uint8 (N, image_size, image_size, 1)` of uniform noise."""
    return np.random.default_rng(0).integers(0, 256, (num_images, image_size, image_size, 1), dtype=np.uint8)
