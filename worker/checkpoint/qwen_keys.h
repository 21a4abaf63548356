// Which keys config.json may hold. Every other key is refused by name: it may change the answer.
#pragma once

#include <set>
#include <string_view>

namespace facet {

using KeySet = std::set<std::string_view>;

const KeySet& qwen_root_keys();    // read here, at the top in both spellings
const KeySet& qwen_text_keys();    // read here, at the top or in text_config
const KeySet& qwen_vision_keys();  // read here, in vision_config
const KeySet& harmless_keys();     // written by transformers, without effect on the forward pass

}  // namespace facet
