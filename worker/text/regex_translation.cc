#include "worker/text/regex_translation.h"

#include <algorithm>
#include <vector>

#include "worker/text/unicode_additions.h"

namespace facet {
namespace {

// White_Space of Unicode 16. PCRE2's \s holds U+180E as well.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
// Categories whose PCRE2 tables plus our additions equal Oniguruma's.
constexpr std::string_view kCategories[] = {"L",  "N",  "M",  "P",  "S",  "Z",  "Lu", "Ll", "Lt",
                                            "Lm", "Lo", "Nd", "Nl", "No", "Me", "Zs", "Zl", "Zp"};
constexpr std::string_view kGroups[] = {"(?:", "(?i:", "(?=", "(?!", "(?>"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> run() {
    while (at_ < pattern_.size()) FACET_TRY_STATUS(step());
    return std::move(out_);
  }

 private:
  Error refuse(std::string_view what) const {
    return Error(Code::kUnsupported, "regular expression \"" + std::string(pattern_) + "\": " +
                                         std::string(what) + " at byte " + std::to_string(at_) +
                                         " is not supported");
  }

  void take(std::size_t num_bytes) {
    out_ += pattern_.substr(at_, num_bytes);
    at_ += num_bytes;
  }

  Status step() {
    switch (pattern_[at_]) {
      case '\\': return in_class_ ? escape_in_class() : escape();
      case '[': return open_class();
      case ']': in_class_ = false; break;
      case '&':
        if (in_class_ && pattern_.substr(at_, 2) == "&&") return refuse("set operation &&");
        break;
      case '(': if (!in_class_) return open_group(); break;
      case ')':
        if (!in_class_ && !caseless_groups_.empty()) caseless_groups_.pop_back();
        break;
      case '^': if (!in_class_) return refuse("anchor ^"); break;
      case '$': if (!in_class_) return refuse("anchor $"); break;
      case '{': if (!in_class_) return repeat(); break;
      default: break;
    }
    take(1);
    return {};
  }

  Status open_class() {
    if (in_class_) return refuse("[ in a class");
    in_class_ = true;
    take(1);
    if (at_ < pattern_.size() && pattern_[at_] == '^') take(1);
    if (at_ < pattern_.size() && pattern_[at_] == ']') return refuse("] first in a class");
    return {};
  }

  Status open_group() {
    if (pattern_.substr(at_, 2) != "(?") {
      caseless_groups_.push_back(false);
      take(1);
      return {};
    }
    for (const std::string_view group : kGroups) {
      if (pattern_.substr(at_, group.size()) != group) continue;
      caseless_groups_.push_back(group == "(?i:");
      take(group.size());
      return {};
    }
    return refuse("group " + std::string(pattern_.substr(at_, 4)));
  }

  // {n}, {n,} or {n,m}; "{,m}" and "{n}+" mean other things in the two engines.
  Status repeat() {
    const std::size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) return refuse("{ without }");
    const std::string_view inside = pattern_.substr(at_ + 1, close - at_ - 1);
    const bool plain = !inside.empty() && inside[0] != ',' &&
                       std::all_of(inside.begin(), inside.end(), [](char c) {
                         return (c >= '0' && c <= '9') || c == ',';
                       });
    if (!plain) return refuse("repeat {" + std::string(inside) + "}");
    if (close + 1 < pattern_.size() && pattern_[close + 1] == '+') return refuse("{..}+");
    take(close + 1 - at_);
    return {};
  }

  bool caseless() const {
    return std::find(caseless_groups_.begin(), caseless_groups_.end(), true) !=
           caseless_groups_.end();
  }

  // Escapes that mean the same on both sides and both in and out of classes.
  bool take_plain_escape() {
    const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    constexpr std::string_view kSame = "rntf\\/.'\"!#%&()*+,-:;<=>?@[]^_`{|}~$ ";
    if (c == '\0' || kSame.find(c) == std::string_view::npos) return false;
    take(2);
    return true;
  }

  // \p{X} or \P{X}: the category's name, and at_ after it.
  Result<std::string> property() {
    const std::size_t close = pattern_.find('}', at_);
    if (pattern_.substr(at_ + 2, 1) != "{" || close == std::string_view::npos) {
      return refuse("\\p without {..}");
    }
    const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    if (std::find(std::begin(kCategories), std::end(kCategories), name) == std::end(kCategories)) {
      return refuse("property \\p{" + std::string(name) + "}");
    }
    if (caseless()) return refuse("\\p{..} in a caseless group");
    at_ = close + 1;
    return "\\p{" + std::string(name) + "}" + unicode_additions(name);
  }

  Status escape() {
    const std::string_view two = pattern_.substr(at_, 2);
    if (two == "\\p" || two == "\\P") {
      const std::string inside = FACET_TRY(property());
      out_ += (two == "\\p" ? "[" : "[^") + inside + "]";
    } else if (two == "\\s" || two == "\\S") {
      out_ += (two == "\\s" ? "[" : "[^") + std::string(kSpace) + "]";
      at_ += 2;
    } else if (two == "\\d") {
      out_ += "[\\p{Nd}" + unicode_additions("Nd") + "]";
      at_ += 2;
    } else if (!take_plain_escape()) {
      return refuse("escape " + std::string(two));
    }
    return {};
  }

  Status escape_in_class() {
    const std::string_view two = pattern_.substr(at_, 2);
    if (two == "\\p") {
      out_ += FACET_TRY(property());
    } else if (two == "\\s") {
      out_ += kSpace;
      at_ += 2;
    } else if (two == "\\d") {
      out_ += "\\p{Nd}" + unicode_additions("Nd");
      at_ += 2;
    } else if (!take_plain_escape()) {
      return refuse("escape " + std::string(two) + " in a class");
    }
    return {};
  }

  std::string_view pattern_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::vector<bool> caseless_groups_;  // one for each open group
};

}  // namespace

Result<std::string> translate_oniguruma(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace facet
