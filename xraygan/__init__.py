"""What the notebooks compute with.

Four chapters stand on a ground floor and import one way: data ← gan ← comparison ← report. The ground floor (keys, disk, backend,
clouds, run, training, processes) knows nothing of any chapter. `make lint` checks this.
"""

import logging
import os
import sys

# Settings of other programs decide neither numbers nor pictures; `backend` and `report.figures` do the rest, once their libraries are there.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # else ~/.keras/keras.json chooses
for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):  # would cut every training
    os.environ.pop(name, None)
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # a GPU's memory as it is needed: a notebook and the process
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # that trains for it share one GPU
if "ipykernel" in sys.modules:  # in a notebook pictures belong below their cells, whatever MPLBACKEND a shell or an IDE has set
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    # That tasks of the notebook's own are cut off when it ends is no news.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
