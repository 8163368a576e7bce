"""How a small training runs wherever the tests run: on one processor, to the bit."""

HARDWARE = {
    "accelerator": "cpu",
    "devices": 1,
    "strategy": "auto",
    "precision": "32-true",
    "deterministic": True,
    "max_epochs": 1,
}
