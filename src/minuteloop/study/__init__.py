"""Many runs: a Hydra multirun, its cells and its table."""
