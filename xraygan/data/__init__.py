"""Images in: where they come from, whether they can be trusted, how they are split."""
