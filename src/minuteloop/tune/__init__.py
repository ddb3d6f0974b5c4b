"""Search: Optuna chooses configs, each is trained once, and the best is trained again with fresh seeds."""
