"""What a reader sees: figures, sentences, and the numbers that are committed."""
