// Files of tests/data/text for the tests of this folder.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/text/tokenizer.h"

namespace facet {

inline std::string text_data(const std::string& name) {
  return std::string(FACET_SOURCE_DIR) + "/tests/data/text/" + name;
}

inline nlohmann::json read_test_json(const std::string& name) {
  std::ifstream file(text_data(name));
  return nlohmann::json::parse(file);
}

inline Tokenizer load_test_tokenizer(const std::string& kind) {
  return Tokenizer::load(text_data(kind + ".json")).value();
}

}  // namespace facet
