#include "common/config/toml_reader.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "common/config/byte_size.h"
#include "common/config/config_schema.h"
#include "common/config/toml.h"

namespace facet {
namespace {

// Number of single-letter edits between two names (Levenshtein 1966), for "did you mean".
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

class Reader {
 public:
  explicit Reader(ReadConfig& out) : out_(out), keys_(config_keys(out.config)) {}

  void read_table(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string name = prefix + std::string(key.str());
      line_ = static_cast<int>(key.source().begin.line);
      if (const ConfigKey* known = find(name)) {
        read_key(*known, node);
      } else if (!is_table_name(name)) {
        problem(name, (node.is_table() ? "unknown table" : "unknown key") + suggestion(name));
      } else if (const toml::table* inner = node.as_table()) {
        read_table(*inner, name + ".");
      } else {
        problem(name, "is a table, not " + std::string(type_name(node)));
      }
    }
  }

 private:
  const ConfigKey* find(std::string_view name) const {
    const auto found = std::find_if(keys_.begin(), keys_.end(),
                                    [&](const ConfigKey& key) { return key.name == name; });
    return found == keys_.end() ? nullptr : &*found;
  }

  bool is_table_name(const std::string& name) const {
    return std::any_of(keys_.begin(), keys_.end(), [prefix = name + "."](const ConfigKey& key) {
      return key.name.substr(0, prefix.size()) == prefix;
    });
  }

  // Names the nearest key: the unit forgotten, the wrong table, or a letter or two.
  std::string suggestion(std::string_view name) const {
    const std::string_view leaf = name.substr(name.rfind('.') + 1);
    std::size_t best_distance = 3;  // more edits than this is another word
    std::string_view best;
    for (const ConfigKey& key : keys_) {
      if (key.name.substr(0, name.size() + 1) == std::string(name) + "_") return hint(key.name);
      if (key.name.substr(key.name.rfind('.') + 1) == leaf && best_distance > 0) {
        best_distance = 0;
        best = key.name;
      }
      if (const std::size_t distance = edit_distance(name, key.name); distance < best_distance) {
        best_distance = distance;
        best = key.name;
      }
    }
    return best.empty() ? "" : hint(best);
  }

  static std::string hint(std::string_view name) {
    return "; did you mean " + std::string(name) + "?";
  }

  void problem(std::string_view name, const std::string& text) {
    out_.problems.push_back({line_, std::string(name) + ": " + text});
  }

  void wrong_type(const ConfigKey& key, std::string_view wanted, const toml::node& node) {
    problem(key.name, "must be " + std::string(wanted) + ", not " + std::string(type_name(node)));
  }

  void outside(const ConfigKey& key, const std::string& value, const std::string& min,
               const std::string& max) {
    problem(key.name, value + " is not between " + min + " and " + max + " (" +
                          std::string(key.reason) + ")");
  }

  void read_key(const ConfigKey& key, const toml::node& node) {
    line_ = static_cast<int>(node.source().begin.line);
    out_.lines[std::string(key.name)] = line_;
    std::visit([&](const auto& kind) { read(key, kind, node); }, key.value);
  }

  void read(const ConfigKey& key, const IntKey& kind, const toml::node& node) {
    const auto* value = node.as_integer();
    if (!value) return wrong_type(key, "an integer", node);
    if (value->get() < kind.min || value->get() > kind.max) {
      return outside(key, std::to_string(value->get()), std::to_string(kind.min),
                     std::to_string(kind.max));
    }
    std::visit(
        [&](auto* field) {
          *field = static_cast<std::remove_reference_t<decltype(*field)>>(value->get());
        },
        kind.value);
  }

  void read(const ConfigKey& key, const BoolKey& kind, const toml::node& node) {
    const auto* value = node.as_boolean();
    if (!value) return wrong_type(key, "true or false", node);
    *kind.value = value->get();
  }

  // A size is an integer (bytes) or a text with a unit. nullopt: a problem was noted.
  std::optional<std::uint64_t> read_size(const ConfigKey& key, const toml::node& node) {
    if (const auto* number = node.as_integer()) {
      if (number->get() >= 0) return static_cast<std::uint64_t>(number->get());
      problem(key.name, std::to_string(number->get()) + " is negative");
    } else if (const auto* text = node.as_string()) {
      const Result<std::uint64_t> size = parse_byte_size(text->get());
      if (size) return *size;
      problem(key.name, size.error().message);
    } else {
      wrong_type(key, "a number of bytes or a size such as \"512MiB\"", node);
    }
    return std::nullopt;
  }

  bool size_is_within(const ConfigKey& key, std::uint64_t size, std::uint64_t min,
                      std::uint64_t max) {
    if (size >= min && size <= max) return true;
    outside(key, format_byte_size(size), format_byte_size(min), format_byte_size(max));
    return false;
  }

  void read(const ConfigKey& key, const BytesKey& kind, const toml::node& node) {
    const std::optional<std::uint64_t> size = read_size(key, node);
    if (!size || !size_is_within(key, *size, kind.min, kind.max)) return;
    if (*size % kind.multiple != 0) {
      return problem(key.name, format_byte_size(*size) + " is not a multiple of " +
                                   format_byte_size(kind.multiple));
    }
    *kind.value = *size;
  }

  void read(const ConfigKey& key, const BytesListKey& kind, const toml::node& node) {
    std::vector<std::uint64_t> sizes;
    if (const auto* list = node.as_array()) {
      for (const toml::node& element : *list) {
        const std::optional<std::uint64_t> size = read_size(key, element);
        if (!size) return;
        sizes.push_back(*size);
      }
    } else if (const auto* text = node.as_string()) {
      Result<std::vector<std::uint64_t>> parsed = parse_byte_sizes(text->get());
      if (!parsed) return problem(key.name, parsed.error().message);
      sizes = *std::move(parsed);
    } else if (const std::optional<std::uint64_t> size = read_size(key, node)) {
      sizes.push_back(*size);
    } else {
      return;
    }
    if (!count_is_within(key, sizes.size(), kind.max_count)) return;
    for (std::uint64_t size : sizes) {
      if (!size_is_within(key, size, kind.min, kind.max)) return;
    }
    *kind.value = std::move(sizes);
  }

  bool count_is_within(const ConfigKey& key, std::size_t count, std::size_t max_count) {
    if (count <= max_count) return true;
    problem(key.name, std::to_string(count) + " entries, at most " + std::to_string(max_count) +
                          " (" + std::string(key.reason) + ")");
    return false;
  }

  void read(const ConfigKey& key, const TextKey& kind, const toml::node& node) {
    const auto* text = node.as_string();
    if (!text) return wrong_type(key, "a text", node);
    if (text->get().find('\0') != std::string::npos) {
      return problem(key.name, "holds a NUL character");
    }
    *kind.value = text->get();
  }

  void read(const ConfigKey& key, const TextListKey& kind, const toml::node& node) {
    std::vector<std::string> entries;
    if (const auto* list = node.as_array()) {
      for (const toml::node& element : *list) {
        if (const auto* text = element.as_string()) {
          entries.push_back(text->get());
        } else if (const auto* index = element.as_integer()) {
          entries.push_back(std::to_string(index->get()));
        } else {
          return wrong_type(key, "a list of texts or indices", element);
        }
      }
    } else if (const auto* text = node.as_string()) {
      split(text->get(), entries);
    } else if (const auto* index = node.as_integer()) {
      entries.push_back(std::to_string(index->get()));
    } else {
      return wrong_type(key, "a list, or a text such as \"0,1\"", node);
    }
    if (count_is_within(key, entries.size(), kind.max_count)) *kind.value = std::move(entries);
  }

  static void split(std::string_view text, std::vector<std::string>& entries) {
    std::size_t begin = 0;
    while ((begin = text.find_first_not_of(" \t,", begin)) != std::string_view::npos) {
      const std::size_t end = std::min(text.find_first_of(" \t,", begin), text.size());
      entries.emplace_back(text.substr(begin, end - begin));
      begin = end;
    }
  }

  void read(const ConfigKey& key, const ChoiceKey& kind, const toml::node& node) {
    const auto* text = node.as_string();
    if (!text) return wrong_type(key, "a text", node);
    std::string all;
    for (std::size_t i = 0; i < kind.choices.size(); ++i) {
      if (kind.choices[i] == text->get()) return kind.set(static_cast<int>(i));
      all += (i == 0 ? "\"" : ", \"") + std::string(kind.choices[i]) + "\"";
    }
    problem(key.name, "\"" + text->get() + "\" is not one of " + all);
  }

  ReadConfig& out_;
  std::vector<ConfigKey> keys_;  // points into out_.config
  int line_ = 0;
};

// toml++ builds and destroys tables by recursion, and a dotted key nests as deeply as it is long:
// 4 KiB a line, more than any value here needs, keep that far from the end of the stack.
constexpr std::size_t kMaxLineBytes = 4096;

std::optional<ConfigProblem> find_long_line(std::string_view text) {
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    if (length > kMaxLineBytes) {
      return ConfigProblem{number, "a line of " + std::to_string(length) + " bytes; at most " +
                                       std::to_string(kMaxLineBytes) + " are read"};
    }
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return std::nullopt;
}

}  // namespace

ReadConfig read_toml(std::string_view text) {
  ReadConfig out;
  if (auto problem = find_long_line(text)) {
    out.problems.push_back(*std::move(problem));
    out.syntax_error = true;
    return out;
  }
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    out.problems.push_back({static_cast<int>(parsed.error().source().begin.line),
                            std::string(parsed.error().description())});
    out.syntax_error = true;
    return out;
  }
  Reader(out).read_table(parsed.table(), "");
  return out;
}

}  // namespace facet
