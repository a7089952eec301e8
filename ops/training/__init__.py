"""Training: Ray Train, the optimisation loop, and the training runs of one artefact."""
