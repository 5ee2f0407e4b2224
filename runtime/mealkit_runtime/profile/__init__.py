"""What a dataset is like, told before a recipe is written: one pass, bounded memory, one frozen value."""
