"""What the notebooks compute with.

Four chapters stand on a ground floor and import one way: data ← gan ← comparison ← report. The ground floor (keys, disk, backend,
run, training, hosts) knows nothing of any chapter. `make lint` checks this.
"""
