// The table of all keys: name, place in a Config, bounds and the reason for them. Reading,
// describing and the tests walk this one table, so a key cannot be known to only some of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/config/config.h"

namespace facet {

struct IntKey {
  std::variant<int*, std::int64_t*> value;
  std::int64_t min;
  std::int64_t max;
};

struct BoolKey {
  bool* value;
};

struct BytesKey {
  std::uint64_t* value;
  std::uint64_t min;
  std::uint64_t max;
  std::uint64_t multiple;  // the value is a multiple of this
};

struct BytesListKey {  // "15GB 15GB" or a list
  std::vector<std::uint64_t>* value;
  std::uint64_t min;
  std::uint64_t max;
  std::size_t max_count;
};

struct TextKey {
  std::string* value;
  std::size_t max_length;  // after a relative path was completed
  bool is_path;            // relative ones are taken from the file's folder
};

struct TextListKey {  // "0,1" or ["GPU-...", 1]
  std::vector<std::string>* value;
  std::size_t max_count;
};

struct ChoiceKey {  // choices[i] stands for the enumerator with value i
  std::variant<EngineKind*, Dtype*, LogLevel*, DispatchPolicy*> value;
  std::vector<std::string_view> choices;

  int get() const;
  void set(int choice) const;
};

struct ConfigKey {
  std::string_view name;    // "worker.count"
  std::string_view reason;  // of the bounds; ends the message about a value outside
  std::variant<IntKey, BoolKey, BytesKey, BytesListKey, TextKey, TextListKey, ChoiceKey> value;
};

// The key's value as describe() writes it.
std::string value_text(const ConfigKey& key);

// In the order of configs/facet.toml. Points into `config`, which must outlive it.
std::vector<ConfigKey> config_keys(Config& config);

}  // namespace facet
