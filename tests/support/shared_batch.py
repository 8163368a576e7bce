"""python -m tests.support.shared_batch NAME: short trainings, by one process and by two.

In double precision, so that a difference is one of the steps and not of sums. The first process of
each leaves the weights in weights-COUNT.safetensors of the working directory, which has conf/ and
the drawn rows of the application. The processes are forked after the imports, and are to each other
what torchrun makes of them.
"""

import os
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path

from tests.support.making import tiny
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Trainer
from tidemill.learners.lightning.loop import LightningLearner
from tidemill.runtime import paths
from tidemill.runtime.rank import rank

FIELDS = {
    "images": {"batch": 8, "dropout": 0.3},  # 18 rows: the last batch of an epoch has two
    # Of eight blocks, one or two are nearly empty.
    "text_generation": {"batch": 8, "steps": 4, "optimiser": "adamw", "context": 80},
}


def train(name: str, count: int) -> None:
    trainer = Trainer(
        accelerator="cpu",
        devices=count,
        strategy="auto",
        precision="64-true",
        deterministic=True,
        max_epochs=2,
    )
    recipe = contract.load(name)(**{**tiny(name).FIELDS, **FIELDS[name]})
    learner = recipe.learner(Splits(paths.data("splits", name), 1))
    assert isinstance(learner, LightningLearner)
    learner.fit(Run(trainer, 1, 2, "test"))
    if not rank():
        learner.save(Path(f"weights-{count}.safetensors"))


def started(name: str, count: int, number: int, port: int) -> int:
    """A forked process that trains as one of `count`; its id."""
    child = os.fork()
    if child:
        return child
    if count > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"WORLD_SIZE": str(count), "LOCAL_RANK": str(number), "NODE_RANK": "0"}
    try:
        train(name, count)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(name: str) -> int:
    import_module(f"recipes.{name}.network")  # once, before the forks
    failed = 0
    for count in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for child in [started(name, count, number, port) for number in range(count)]:
            failed += os.waitpid(child, 0)[1]
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
