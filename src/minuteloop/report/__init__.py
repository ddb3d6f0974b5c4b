"""From records to answers: what many runs show, with intervals. Reads records only; imports no torch and no Hydra."""
