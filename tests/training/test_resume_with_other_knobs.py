"""A killed training goes on under other knobs, from its last checkpoint and to the same weights."""

from dataclasses import replace

import pytest
import torch

from ops.training.config import FitConfig
from ops.training.fit import fit
from storage.artifact import planned_lineage
from tests.worlds.local_session import LocalSession

RECIPE = FitConfig(steps=9, batch=4, checkpoint_every=4, report_every=1)
INPUTS = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def trained(session: LocalSession, config: FitConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

    def loss_of(network, rows):
        return network(INPUTS[rows]).square().mean(), {}

    fit(session, model, loss_of, len(INPUTS), config, seed=1)
    return model.state_dict()


@pytest.mark.parametrize("checkpoint_every", [1, 3, 100])
@pytest.mark.parametrize("report_every", [1, 5])
def test_a_run_killed_under_one_checkpoint_interval_is_resumed_under_another(
    checkpoint_every, report_every
):
    other = replace(RECIPE, checkpoint_every=checkpoint_every, report_every=report_every)
    names = {planned_lineage("codebook", {}, item, "c0de", 0).version for item in (RECIPE, other)}
    assert len(names) == 1, "a run is resumed by its name, which carries the version"
    killed = LocalSession(killed_at=6)
    with pytest.raises(KeyboardInterrupt):
        trained(killed, RECIPE)
    assert killed.state["step"] == 4
    resumed = LocalSession(state=killed.state)
    whole, again = trained(LocalSession(), RECIPE), trained(resumed, other)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert resumed.state["step"] == 9 and len(resumed.losses) <= 5
