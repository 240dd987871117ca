"""Keras' own networks as classifiers: scaled as they were trained, with weights from a file, or a sentence where there is none."""

import dataclasses
import hashlib
import http.server
import threading

import keras
import numpy as np
import pytest
from test_swaps import SMALL, run_through_a_study
from test_ways_in import ASKED

from xraygan import keys
from xraygan.comparison import applications
from xraygan.comparison.applications import DENSENET, MOBILENET
from xraygan.comparison.classifier import Classifier
from xraygan.comparison.profile import load_profile
from xraygan.comparison.study import begin

SIZE = 64
PREPROCESS = {
    MOBILENET: keras.applications.mobilenet_v3.preprocess_input,
    DENSENET: keras.applications.densenet.preprocess_input,
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Keras' folder, empty, and no network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(applications, "ADDRESS", "http://127.0.0.1:9/")
    (tmp_path / "keras" / "models").mkdir(parents=True)
    return tmp_path / "keras" / "models"


def write_weights(application, home, seed=0):
    """Random weights in place of ImageNet's, in a file of their name; returns the network that has them, images of three channels → features."""
    network = application.build(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
    rng = np.random.default_rng(seed)
    network.set_weights([weights * rng.normal(1, 0.01, weights.shape) for weights in network.get_weights()])
    network.save(home / application.file.rpartition("/")[2])
    return network


@pytest.mark.parametrize(
    "application", [MOBILENET, pytest.param(DENSENET, marks=pytest.mark.slow)], ids=lambda application: application.name
)
def test_images_reach_the_network_as_its_own_preprocessing_gives_them(application, home, float32, rng):
    network = write_weights(application, home)
    images = rng.integers(0, 256, (3, SIZE, SIZE, 1)) * np.array([0.1, 0.5, 1]).reshape(3, 1, 1, 1)
    images = images.astype(np.uint8)
    expected = network(PREPROCESS[application](np.repeat(images, 3, axis=-1).astype(np.float32)), training=False).numpy()
    without = applications.build_untrained(application, SIZE, iter(range(10**6)).__next__)
    without.set_weights(network.get_weights())
    for body in (applications.build_pretrained(application, SIZE), without):
        features = body([images / np.float32(255)], training=False)
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-3 * np.ptp(expected, axis=0).max())


@pytest.mark.slow
@pytest.mark.parametrize("application", [MOBILENET, DENSENET], ids=lambda application: application.name)
def test_a_pretrained_network_goes_through_a_study(application, home, tmp_path, phantom_folder):
    """It trains, is saved and loaded, its maps and its features are looked at; what its batch normalisation knows stays."""
    network = write_weights(application, home)
    trained = run_through_a_study(application.name, dataclasses.replace(SMALL, image_size=SIZE), tmp_path, phantom_folder)
    known = {layer.name: layer for layer in network.layers}
    for layer in trained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for one, other in zip(layer.get_weights(), known[layer.name].get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
    learned = [layer for layer in trained.layers if isinstance(layer, keras.layers.Conv2D)]
    assert any((layer.get_weights()[0] != known[layer.name].get_weights()[0]).any() for layer in learned)


@pytest.mark.parametrize("name", ["mobilenet_untrained", "densenet_untrained"])
def test_initial_weights_are_drawn_from_the_seed_and_no_two_layers_share_one(name):
    one, same, other = (Classifier(name, image_size=SIZE).build(2, seed) for seed in (1, 1, 2))
    kernels = []
    for first, again, another in zip(one.weights, same.weights, other.weights, strict=True):
        np.testing.assert_array_equal(first, again)
        if np.ptp(first.numpy()) > 0:
            assert (first.numpy() != another.numpy()).any(), first.path
            kernels.append(first.numpy().ravel()[:9].round(5).tobytes())
    assert len(set(kernels)) == len(kernels) > 40


def test_the_weights_are_in_the_key_and_so_is_everything_else(home):
    def find_key(name, **changes):
        keys.describe_network.cache_clear()
        return Classifier(name, image_size=SIZE, **changes).describe(2)["network"]

    write_weights(MOBILENET, home, seed=1)
    one, again, untrained = find_key("mobilenet"), find_key("mobilenet"), find_key("mobilenet_untrained")
    write_weights(MOBILENET, home, seed=2)
    other = find_key("mobilenet")
    assert one == again and len({one, other, untrained}) == 3
    profile = load_profile("quick")
    assert profile.make_classifier("mobilenet").learning_rate < profile.make_classifier("study_cnn").learning_rate == 1e-3


def test_without_weights_and_network_a_sentence_says_what_to_do_before_an_image_is_read(home, monkeypatch):
    monkeypatch.setattr("xraygan.data.sources.find_source", lambda *_: pytest.fail("images were looked for"))
    with pytest.raises(
        ValueError,
        match="mobilenet'.*can't be downloaded.*connect it to the network; or put .*no_top_v2.h5 into .*KERAS_HOME/models; or "
        "choose mobilenet_untrained",
    ):
        begin(DATA="phantom", RUN="offline", **ASKED | {"CLASSIFIER": "mobilenet"})


@pytest.fixture
def server():
    """A server on this machine that answers every address with `server.content`."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_weights_are_downloaded_once_and_whole_or_not_at_all(home, server, monkeypatch, capsys):
    monkeypatch.setattr(applications, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
    server.content = b"<html>please log in</html>"
    with pytest.raises(ValueError, match="can't be downloaded \\(what came is another file\\)"):
        applications.find_weights(DENSENET)
    assert not list(home.iterdir())
    expected = applications.Application("small", None, 1, 0, "any/small.h5", hashlib.md5(server.content).hexdigest(), 1)
    assert applications.find_weights(expected).read_bytes() == server.content
    server.content = b"other"
    assert applications.find_weights(expected).read_bytes() != server.content
    assert capsys.readouterr().out.count("Downloading the ImageNet weights of small, 1 MB.") == 1


@pytest.mark.parametrize("content", [b"", b"<html></html>", "cut", "another network"])
def test_a_file_that_is_not_the_networks_is_a_sentence(home, content):
    path = home / MOBILENET.file.rpartition("/")[2]
    if content == "another network":
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    elif content == "cut":
        write_weights(MOBILENET, home)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no_top_v2.h5 in .KERAS_HOME/models doesn't hold the weights of mobilenet: delete it"):
        Classifier("mobilenet", image_size=SIZE).build(2)
