"""A plan's figures, held against real networks; hardware that is not here."""

import pytest
import torch

from recipes.text_generation.size import Size, budget
from recipes.text_generation.transformer import Transformer
from tidemill.engines import config
from tidemill.runtime.errors import Refused


@pytest.mark.parametrize(("positions", "norm"), [("rotary", "rms"), ("learned", "layer")])
def test_the_activations_of_a_budget_are_what_a_real_step_keeps(positions: str, norm: str) -> None:
    size = Size(4, 4, 128, 128, 300, positions, norm)  # type: ignore[arg-type]
    net = Transformer(size)
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 300, (8, 128))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = net.states(
            ids,
            torch.arange(128).expand(8, 128),
            torch.ones(128, 128, dtype=torch.bool).tril()[None, None],
        )[0]
    assert states.requires_grad
    said = float(budget(size, 8, 1)["activations_mb"])
    assert said == pytest.approx(sum(kept.values()) / 1e6, rel=0.15)


def test_more_gpus_than_there_are_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = config.recipe("text_generation", ["trainer=fsdp"])
    monkeypatch.setattr(config, "_gpus", lambda: 2)
    with pytest.raises(
        Refused, match=r"trainer=fsdp wants 8 GPUs and this machine has 2; say trainer\.devices=2"
    ):
        config.check_hardware(settings)
    config.check_hardware(config.recipe("text_generation", ["trainer=fsdp", "trainer.devices=2"]))
