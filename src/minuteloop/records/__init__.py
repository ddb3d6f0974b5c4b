"""What a run leaves: its record, log, curves, pictures, and what W&B gets."""
