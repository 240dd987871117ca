"""The run's record."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from xraygan import disk, record
from xraygan.sources import ImageSet, Source


def test_a_training_in_several_goes_is_counted_whole(folders):
    record.start_record(folders, seed=0, classes=("A", "B"))
    with record.measured(folders, "gan"):
        time.sleep(0.2)
    with pytest.raises(KeyboardInterrupt), record.measured(folders, "gan"):
        time.sleep(0.2)
        raise KeyboardInterrupt
    record.start_record(folders, seed=0, classes=("A", "B"))  # the same run again
    part = record.read_record(folders)["parts"]["gan"]
    assert 0.4 <= part["seconds"] < 5
    assert part["peak_memory_gb"] > 0.05
    record.start_record(folders, seed=1, classes=("A", "B"))  # another run in the same folder
    assert record.read_record(folders)["parts"] == {}


def test_no_record_yet(folders):
    with pytest.raises(FileNotFoundError, match="run the notebooks in their order"):
        record.read_record(folders)


def test_other_images_are_noticed(folders):
    source = Source("x", None, ("A", "B"), "B", False)
    images = ImageSet(source, np.zeros((1, 1, 1, 1)), np.zeros(1), np.array(["train"]), np.array(["a.png"]), np.array(["1"]))
    record.start_record(folders, data={"fingerprint": images.fingerprint})
    record.require_same_data(record.read_record(folders), images)
    record.start_record(folders, data={"fingerprint": "other"})
    with pytest.raises(ValueError, match="DATA isn't what notebook 1 saw"):
        record.require_same_data(record.read_record(folders), images)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_only_processors_that_the_process_may_use_are_counted():
    """A container or a batch system gives a process some of them: as many threads as there are would fight for those."""
    code = "import json, os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from xraygan import backend; "
    code += "print(json.dumps(backend.configure('float32')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=disk.ROOT, capture_output=True, text=True, check=True)
    machine = json.loads(done.stdout)
    assert (machine["cores"], machine["threads"]) == (1, 1)
