"""Speed and quality against references; `make bench` runs what takes minutes. Importing the back end first keeps TensorFlow quiet."""

from xraygan import backend as _backend  # noqa: F401
