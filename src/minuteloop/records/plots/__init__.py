"""Pictures of a run: PNGs drawn at its end, off the clock, from results that it has already computed."""
