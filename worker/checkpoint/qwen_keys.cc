#include "worker/checkpoint/qwen_keys.h"

namespace facet {

const KeySet& qwen_root_keys() {
  static const KeySet kKeys{
      "model_type",      "text_config",    "vision_config",         "tie_word_embeddings",
      "image_token_id",  "video_token_id", "vision_start_token_id", "vision_end_token_id",
      "vision_token_id", "eos_token_id",   "bos_token_id",          "pad_token_id"};
  return kKeys;
}

const KeySet& qwen_text_keys() {
  static const KeySet kKeys{"model_type",          "vocab_size",
                            "hidden_size",         "intermediate_size",
                            "num_hidden_layers",   "num_attention_heads",
                            "num_key_value_heads", "head_dim",
                            "hidden_act",          "max_position_embeddings",
                            "rms_norm_eps",        "use_sliding_window",
                            "sliding_window",      "max_window_layers",
                            "layer_types",         "attention_dropout",
                            "rope_parameters",     "rope_scaling",
                            "rope_theta",          "tie_word_embeddings",
                            "bos_token_id",        "eos_token_id",
                            "pad_token_id"};
  return kKeys;
}

const KeySet& qwen_vision_keys() {
  static const KeySet kKeys{"model_type",         "depth",
                            "hidden_size",        "hidden_act",
                            "intermediate_size",  "num_heads",
                            "in_channels",        "in_chans",
                            "patch_size",         "spatial_patch_size",
                            "spatial_merge_size", "temporal_patch_size",
                            "tokens_per_second",  "window_size",
                            "out_hidden_size",    "fullatt_block_indexes",
                            "rope_parameters"};
  return kKeys;
}

const KeySet& harmless_keys() {
  static const KeySet kKeys{"architectures",
                            "attn_implementation",
                            "auto_map",
                            "chunk_size_feed_forward",
                            "dtype",
                            "finetuning_task",
                            "id2label",
                            "initializer_range",
                            "is_decoder",
                            "is_encoder_decoder",
                            "label2id",
                            "name_or_path",
                            "output_attentions",
                            "output_hidden_states",
                            "problem_type",
                            "return_dict",
                            "task_specific_params",
                            "tokenizer_class",
                            "torch_dtype",
                            "torchscript",
                            "transformers_version",
                            "use_bfloat16",
                            "use_cache",
                            "image_token_id",
                            "video_token_id",
                            "vision_start_token_id",
                            "vision_end_token_id",
                            "vision_token_id"};
  return kKeys;
}

}  // namespace facet
