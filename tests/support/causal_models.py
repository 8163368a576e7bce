"""Tiny random causal models of architectures that transformers has, each a folder."""

from pathlib import Path
from typing import Any

from recipes.text_generation.tokens import Tokens

COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "n_inner": 48,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,  # not GPT-2's own width between its maps, so it is trained through transformers
    "llama": COMMON,
    "qwen2": {**COMMON, "tie_word_embeddings": True},
    "qwen3": {**COMMON, "head_dim": 8},
    "gemma3_text": {
        **COMMON,
        "head_dim": 8,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "mistral": {**COMMON, "sliding_window": 8},
    "phi3": {**COMMON, "sliding_window": None},
    "olmo2": COMMON,
}


def folder(kind: str, path: Path, tokens: Tokens) -> Any:
    """Write a random model of this architecture with its tokenizer; the model itself."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=tokens.size, **ARCHITECTURES[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(path)
    (path / "tokenizer.json").write_text(tokens.body, encoding="utf-8")
    return model
