"""One run: build, calibrate, freeze the plan, train, evaluate, resume."""
