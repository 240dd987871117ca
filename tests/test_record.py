"""The run's record."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from xraygan import disk, record, settings
from xraygan.runs import Run
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


def test_a_run_with_models_is_not_overwritten_by_another(folders):
    """Notebook 1 again: on another computer, with more epochs, it goes on; with other classes or another precision it would mix two runs."""
    machine = {"precision": "float32", "cores": 2}
    record.start_record(folders, classes=("A", "B"), profile={"gan_epochs": 3}, machine=machine)
    record.add(folders, "models", "before_gan", "hash")
    record.start_record(folders, classes=("A", "B"), profile={"gan_epochs": 4}, machine=machine | {"cores": 64})
    notes = record.read_record(folders)
    assert notes["models"] == {"before_gan": "hash"} and notes["machine"]["cores"] == 64
    with pytest.raises(ValueError, match="was made with another classes: choose another name with RUN, or delete"):
        record.start_record(folders, classes=("A", "C"), profile={"gan_epochs": 4}, machine=machine)
    with pytest.raises(ValueError, match="was made with another precision"):
        record.start_record(folders, classes=("A", "B"), profile={"gan_epochs": 4}, machine={"precision": "mixed_bfloat16"})
    assert record.read_record(folders) == notes


def test_notebooks_2_and_3_refuse_other_settings_than_notebook_1s(folders):
    profile = settings.load_profile("quick")
    machine = {"precision": "float32"}
    record.start_record(folders, profile={"name": "quick"} | vars(profile), machine=machine)
    run = Run(folders, record.read_record(folders), None, None, None)
    run.require_settings(profile, machine)
    with pytest.raises(ValueError, match="PROFILE differs from notebook 1's \\('quick'\\) in gan_epochs, num_seeds"):
        run.require_settings(replace(profile, gan_epochs=41, num_seeds=3), machine)
    with pytest.raises(ValueError, match="set PRECISION = 'float32' here"):
        run.require_settings(profile, {"precision": "mixed_bfloat16"})


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
