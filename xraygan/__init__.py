"""What the notebooks compute with: one module, one job; imports run one way (sources → models → study → figures)."""
