"""The generator: how it is built and trained, what it draws, and whether that is any good."""
