"""A training session in this process, for tests of the optimisation loop."""

from copy import deepcopy

import torch


class LocalSession:
    """Session in this process that keeps the last checkpoint and can be killed at a step."""

    rank, world_size, device = 0, 1, torch.device("cpu")

    def __init__(self, state=None, killed_at=None):
        self.state, self.killed_at, self.losses = state, killed_at, []

    def resume(self):
        return self.state

    def prepare(self, model):
        return model

    def average_batch_norm(self, model):
        pass

    def report(self, step, metrics, state=None):
        self.losses.append(metrics["loss"])
        if state is not None:
            self.state = {"step": step, **deepcopy(state)}
        if step == self.killed_at:
            raise KeyboardInterrupt
