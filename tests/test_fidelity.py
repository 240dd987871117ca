"""Distances between sets of images: known answers against independent implementations, and the order any eye would give."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from xraygan.comparison.classifier import Classifier
from xraygan.data import phantom, split
from xraygan.gan import fidelity


def independent_kid(real, fake):
    """The unbiased estimator of Bińkowski et al., written as sums over pairs with scikit-learn's kernel."""

    def kernel(a, b):
        return polynomial_kernel(normalize(a), normalize(b), degree=3, gamma=1, coef0=1)

    def mean_of_pairs(matrix):
        return np.mean([matrix[i, j] for i in range(len(matrix)) for j in range(len(matrix)) if i != j])

    return mean_of_pairs(kernel(real, real)) + mean_of_pairs(kernel(fake, fake)) - 2 * kernel(real, fake).mean()


def test_kernel_distance_is_the_unbiased_estimator(rng):
    real, fake = rng.normal(size=(14, 6)), rng.normal(0.7, 2, size=(9, 6))
    distance, low, high = fidelity.kernel_distance(real, fake)
    assert distance == pytest.approx(independent_kid(real, fake), rel=1e-9)
    assert low < distance < high


def test_its_interval_is_the_jackknife(rng):
    """Each image left out by hand; both samples' variances; Student's t with the smaller sample's degrees of freedom."""
    real, fake = rng.normal(size=(8, 4)), rng.normal(1, 1, size=(6, 4))
    variance = 0
    for first, second in ((real, fake), (fake, real)):
        left_out = [independent_kid(np.delete(first, row, axis=0), second) for row in range(len(first))]
        variance += (len(first) - 1) * np.var(left_out)
    distance, low, high = fidelity.kernel_distance(real, fake)
    t = 2.570582  # 97.5 % of Student's t with 5 degrees of freedom
    assert [low, high] == pytest.approx([distance - t * variance**0.5, distance + t * variance**0.5], rel=1e-6)


def test_the_interval_holds_its_coverage():
    """Samples of 60 from two known distributions; the truth from 4,000 each."""
    rng = np.random.default_rng(1)

    def draw(size):
        return rng.normal(size=(size, 5)), rng.normal(0.4, 1, size=(size, 5))

    truth = fidelity.kernel_distance(*draw(4000))[0]
    held = [low <= truth <= high for _, low, high in (fidelity.kernel_distance(*draw(60)) for _ in range(400))]
    assert 0.92 <= np.mean(held) <= 0.985


def test_equal_distributions_have_distance_zero_on_average():
    rng = np.random.default_rng(2)
    distances = np.array([fidelity.kernel_distance(rng.normal(size=(30, 4)), rng.normal(size=(20, 4)))[0] for _ in range(400)])
    assert abs(distances.mean()) < 3 * distances.std() / 20
    assert (distances < 0).any(), "an unbiased estimator of zero must fall below it, too"


def test_one_outlier_does_not_decide(rng):
    real, fake = rng.normal(size=(50, 8)), rng.normal(size=(50, 8))
    fake[0] *= 1000
    assert abs(fidelity.kernel_distance(real, fake)[0]) < 0.2


def independent_prdc(real, fake, k):
    """Precision, recall, density, coverage from their definitions, one image at a time."""

    def radii(features):
        return NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features)[0][:, k]

    r_real, r_fake = radii(real), radii(fake)
    near = [[np.linalg.norm(x - y) for y in fake] for x in real]
    n, m = len(real), len(fake)
    return {
        "precision": sum(any(near[i][j] <= r_real[i] for i in range(n)) for j in range(m)) / m,
        "recall": sum(any(near[i][j] <= r_fake[j] for j in range(m)) for i in range(n)) / n,
        "density": sum(near[i][j] <= r_real[i] for i in range(n) for j in range(m)) / (k * m),
        "coverage": sum(any(near[i][j] <= r_real[i] for j in range(m)) for i in range(n)) / n,
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_coverage(rng, k):
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.5, 0.7, size=(30, 3))
    found = fidelity.precision_recall_density_coverage(real, fake, k)
    assert found == pytest.approx(independent_prdc(real, fake, k))


def test_collapse_and_junk_show_in_the_measure_that_is_meant_for_them(rng):
    real = rng.normal(size=(200, 4))
    collapsed = np.repeat(real[:3], 60, axis=0) + rng.normal(0, 0.01, size=(180, 4))
    junk = rng.normal(0, 10, size=(200, 4))
    of = fidelity.precision_recall_density_coverage
    assert of(real, collapsed)["precision"] > 0.9 and of(real, collapsed)["coverage"] < 0.2
    assert of(real, junk)["precision"] < 0.2 and of(real, junk)["density"] < 0.2
    assert fidelity.diversity(real, collapsed) < fidelity.COLLAPSED < fidelity.diversity(real, rng.normal(size=(200, 4)))


@pytest.mark.parametrize(("num_real", "num_fake"), [(200, 40), (40, 200), (60, 60)])
def test_diversity_compares_equal_numbers(rng, num_real, num_fake):
    """The more points, the nearer the nearest: so the first of each, as many as there are of both. Here by a plain second implementation."""
    real, fake, size = rng.normal(size=(num_real, 3)), rng.normal(size=(num_fake, 3)), min(num_real, num_fake)
    nearest = [
        np.median([min(np.linalg.norm(one - other) for other in points if other is not one) for one in points])
        for points in (list(real[:size]), list(fake[:size]))
    ]
    assert fidelity.diversity(real, fake) == pytest.approx(nearest[1] / nearest[0])


def test_too_few_images_are_an_error_not_a_number(rng):
    with pytest.raises(ValueError, match="at least 3 images"):
        fidelity.kernel_distance(rng.normal(size=(2, 3)), rng.normal(size=(9, 3)))
    with pytest.raises(ValueError, match="more than 5 images"):
        fidelity.precision_recall_density_coverage(rng.normal(size=(5, 3)), rng.normal(size=(9, 3)))


@pytest.fixture(scope="module")
def drawings():
    """Phantom drawings: training, held-out and fresh COVID19."""

    def draw(name, first, count):
        return np.stack([phantom.draw(name, [7, first + index]) for index in range(count)])

    return {
        "training": draw("COVID19", 0, 60),
        "held_out": draw("COVID19", 1000, 40),
        "fresh": draw("COVID19", 2000, 40),
    }


@pytest.fixture(scope="module")
def judge(drawings):
    return fidelity.Judge(Classifier().build(2), drawings["training"], drawings["held_out"])


def test_the_judge_ranks_as_an_eye_does(judge, drawings):
    blurred = np.stack([gaussian_filter(image, (1.5, 1.5, 0)) for image in drawings["fresh"]])
    image_sets = {"real": drawings["fresh"], "blurred": blurred, "noise": fidelity.draw_uniform(40)}
    table = judge.table(image_sets)
    random = table[table["space"] == "random"].set_index("images")
    assert random.loc["real", "kid"] < 0.1
    assert min(random.loc["blurred", "kid"], random.loc["noise", "kid"]) > 1
    assert random.loc["real", "coverage"] > 0.8 > random.loc["noise", "coverage"]
    assert random.loc["noise", "precision"] < 0.1
    assert table["kid"].between(table["low"], table["high"]).all()
    assert not table.isna().any().any()
    assert judge.table(image_sets).equals(table), "the same sets gave another table"


def test_neighbours_are_counted_as_of_each_draw_alone(judge, drawings):
    """Distances are taken once for all draws; the means are those of the features drawn and scored one after the other."""
    sets = {"fresh": drawings["fresh"][:25], "training": drawings["training"]}
    table = judge.table(sets, seed=3).set_index(["space", "images"])
    rng = np.random.default_rng(3)
    for space in judge.spaces:
        for name, images in sets.items():
            real, features, scores = judge.held_out[space.name], space(images), []
            for _ in range(10):
                one, other = (fidelity._pick(rows, 25, rng) for rows in (real, features))
                scores.append(fidelity.precision_recall_density_coverage(one, other))
            for measure in scores[0]:
                assert table.loc[(space.name, name), measure] == np.mean([score[measure] for score in scores])


def test_large_sets_are_judged_by_a_draw_whose_size_is_said(drawings, monkeypatch):
    classifier = Classifier().build(2)
    monkeypatch.setattr(fidelity, "MOST", 30)
    judge = fidelity.Judge(classifier, drawings["training"], drawings["held_out"])
    table = judge.table({"fresh": drawings["fresh"], "few": drawings["fresh"][:20]})
    assert table["held_out"].tolist() == [30] * 4 and table["judged"].tolist() == [30, 20] * 2
    assert table.equals(judge.table({"fresh": drawings["fresh"], "few": drawings["fresh"][:20]})), "another draw"
    assert (
        fidelity.format_table(table)[["images compared", "test images"]].to_numpy().tolist() == [["30", "30"], ["20", "30"]] * 2
    )
    assert judge.tell_real_from_fake(drawings["fresh"])["images"] == 60
    by_hand = fidelity.Judge(
        classifier, *(fidelity.draw_at_most(drawings[name], fidelity.MOST) for name in ("training", "held_out"))
    )
    assert by_hand.table(
        {"fresh": fidelity.draw_at_most(drawings["fresh"], fidelity.MOST), "few": drawings["fresh"][:20]}
    ).equals(table)


def test_a_set_of_too_few_images_is_left_out_and_named(judge, drawings, capsys):
    enough = {"fakes": drawings["fresh"], "real": drawings["training"]}
    table = judge.table(enough | {"another class": drawings["fresh"][: split.FEWEST_JUDGED - 1]})
    assert table.equals(judge.table(enough))
    assert "5 images are too few to judge by (at least 6): another class is left out." in capsys.readouterr().out


def test_a_row_of_the_curve(judge, drawings):
    row = judge.distances(drawings["fresh"])
    assert set(row) == {"kid_classifier", "kid_random", "kid", "diversity"}
    assert row["kid"] == pytest.approx((row["kid_classifier"] + row["kid_random"]) / 2)
    assert row["diversity"] == pytest.approx(1, abs=0.3)
    repeated = np.repeat(drawings["fresh"][:3], 14, axis=0)
    assert judge.has_collapsed(judge.distances(repeated)["diversity"], row["diversity"])


def test_real_or_fake(judge, drawings):
    noise, fresh = judge.tell_real_from_fake(fidelity.draw_uniform(60)), judge.tell_real_from_fake(drawings["fresh"])
    assert noise["accuracy"] > 0.95
    assert fresh["low"] <= 0.5 <= fresh["high"]
    assert noise["images"] == 80, "as many fakes as held-out images, not more"


@pytest.mark.parametrize("image_size", [32, 64, 128, 256])
def test_random_features_are_the_same_everywhere(rng, image_size):
    """Fixed weights: two networks agree, another seed doesn't, and every size of image has as many features."""
    image = rng.random((1, image_size, image_size, 1), dtype=np.float32)
    first, again, other = (fidelity.random_network(image_size, seed).predict_on_batch(image) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert first.dtype == np.float32 and first.shape == (1, 4096)


def test_the_judge_works_at_the_size_of_its_images(drawings):
    def resize(images):
        return np.stack([np.asarray(Image.fromarray(image[..., 0]).resize((64, 64)))[..., None] for image in images])

    judge = fidelity.Judge(Classifier(image_size=64).build(2), resize(drawings["training"]), resize(drawings["held_out"]))
    fresh = judge.distances(resize(drawings["fresh"]))
    noise = judge.distances(fidelity.draw_uniform(40, 64))
    assert noise["kid_random"] > 10 * abs(fresh["kid_random"])
