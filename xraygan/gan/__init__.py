"""The generator: how it is built and trained, what it draws, and whether that is any good."""

from xraygan import backend  # noqa: F401  before anything here loads Keras: it keeps TensorFlow's start quiet
