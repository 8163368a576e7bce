"""Which words moved the answer.

By integrated gradients (Sundararajan et al. 2017) over the n-grams' rows of the table.
"""

from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from safetensors.torch import load_file

from recipes.languages.features import ngrams
from recipes.languages.network import Net

STEPS = 16


def network(path: Path) -> Net:
    """The trained network alone, without its data."""
    tensors = {
        name.removeprefix("net."): tensor
        for name, tensor in load_file(str(path)).items()
        if name.startswith("net.")
    }
    table, out = tensors["table"], tensors["out.weight"]
    net = Net(len(table) - 1, table.shape[1], len(out))
    net.load_state_dict(tensors)
    return net.eval()


def moved(weights: Path, texts: list[str], bits: int) -> list[list[tuple[str, float]]]:
    """Each text's words with their share in the score of the answer that was given."""
    net = network(weights)
    return [_words(net, text, bits) for text in texts]


def _words(
    net: Net, text: str, bits: int, longest: int = 4, max_chars: int = 600
) -> list[tuple[str, float]]:
    ids = torch.from_numpy(ngrams(text, bits))
    length = torch.tensor([float(len(ids))])
    with torch.no_grad():
        rows = net.table[ids][None]
        answer = int(net.logits(rows.sum(dim=1), length).argmax())

    def score(embedded: torch.Tensor) -> torch.Tensor:  # (S, T, D) to (S,)
        return net.logits(embedded.sum(dim=1), length.expand(len(embedded)))[:, answer]

    shares = (
        IntegratedGradients(score)
        .attribute(rows, n_steps=STEPS, internal_batch_size=STEPS)
        .sum(dim=2)[0]
        .detach()
        .numpy()
    )
    padded = f" {text[:max_chars].lower()} "
    by_letter = np.zeros(len(padded))
    start = 0
    for size in range(
        1, longest + 1
    ):  # n-grams stand in the order of ngrams(): by size, then by place
        count = len(padded) - size + 1
        if count < 1:
            break
        for offset in range(size):
            by_letter[offset : offset + count] += shares[start : start + count] / size
        start += count
    found, place = [], 1
    for word in text[:max_chars].split(" "):
        if word:
            found.append((word, float(by_letter[place : place + len(word)].sum())))
        place += len(word) + 1
    return found
