"""Train a network: the door to Ray Train, the optimisation loop, and the runs of one artefact."""
