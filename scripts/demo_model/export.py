"""Writes the demo model as a Hugging Face directory in Qwen2.5-VL's published layout."""

import os

import torch
from safetensors.torch import save_file

from . import text
from .hf_files import (CHAT_TEMPLATE, byte_alphabet, preprocessor_config, tokenizer_config,
                       tokenizer_json, write_json)
from .model import Config

def config_json(c):
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "attention_dropout": 0.0, "bos_token_id": text.ENDOFTEXT, "eos_token_id": text.IM_END,
        "pad_token_id": text.ENDOFTEXT,
        "vision_start_token_id": text.VISION_START, "vision_end_token_id": text.VISION_END,
        "vision_token_id": text.ID["<|vision_pad|>"], "image_token_id": text.IMAGE_PAD,
        "video_token_id": text.ID["<|video_pad|>"], "hidden_act": "silu",
        "hidden_size": c.width, "initializer_range": 0.02, "intermediate_size": c.mlp,
        "max_position_embeddings": 4096, "max_window_layers": c.layers,
        "num_attention_heads": c.heads, "num_hidden_layers": c.layers,
        "num_key_value_heads": c.kv_heads, "rms_norm_eps": c.eps, "rope_theta": c.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(c.mrope)},
        "sliding_window": 4096, "use_sliding_window": False, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": c.vocab,
        "vision_config": {
            "model_type": "qwen2_5_vl", "depth": c.v_layers, "hidden_act": "silu",
            "hidden_size": c.v_width, "intermediate_size": c.v_mlp, "num_heads": c.v_heads,
            "in_chans": 3, "in_channels": 3, "out_hidden_size": c.width, "patch_size": c.patch,
            "spatial_merge_size": 2, "spatial_patch_size": c.patch, "window_size": c.window,
            "fullatt_block_indexes": list(c.v_full), "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
    }


def export(model, directory):
    """`directory` then loads with transformers as it is."""
    os.makedirs(directory, exist_ok=True)
    c = model.c
    tensors = {name: p.detach().cpu().to(torch.bfloat16).contiguous()
               for name, p in model.named_parameters()}
    save_file(tensors, os.path.join(directory, "model.safetensors"), {"format": "pt"})
    vocab = {char: byte for byte, char in enumerate(byte_alphabet())}
    write_json(directory, "config.json", config_json(c))
    write_json(directory, "tokenizer.json", tokenizer_json(vocab, [], text.ID))
    write_json(directory, "tokenizer_config.json", tokenizer_config(text.ID))
    write_json(directory, "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    # Every picture is brought to about 224x224, the size the model was trained on.
    write_json(directory, "preprocessor_config.json", preprocessor_config(50176, 50176))
    write_json(directory, "generation_config.json", {
        "bos_token_id": text.ENDOFTEXT, "do_sample": False,
        "eos_token_id": [text.IM_END, text.ENDOFTEXT], "pad_token_id": text.ENDOFTEXT,
        "repetition_penalty": 1.0})


def load_into(model, directory):
    """The exported (bf16) weights back into a training model, as fp32."""
    from safetensors.torch import load_file

    state = {k: v.float() for k, v in
             load_file(os.path.join(directory, "model.safetensors")).items()}
    model.load_state_dict(state, strict=True)


__all__ = ["Config", "export", "load_into"]
