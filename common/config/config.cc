#include "common/config/config.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "common/base/unique_fd.h"
#include "common/config/config_schema.h"
#include "common/config/toml_reader.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileBytes = 1 << 20;  // reading ends, whatever the path leads to

Result<std::string> read_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error("cannot read " + path, errno);
  std::string text(kMaxFileBytes + 1, '\0');
  std::size_t length = 0;
  while (length < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("cannot read " + path, errno);
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  if (length > kMaxFileBytes) {
    return Error(Code::kInvalidArgument, path + ": longer than 1 MiB: not a configuration file");
  }
  text.resize(length);
  return text;
}

std::string complete_path(const std::string& path, const std::string& folder) {
  if (path.empty()) return path;
  std::error_code ignored;  // only a deleted working directory fails; then the path stays relative
  const fs::path base = folder.empty() ? fs::current_path(ignored) : fs::path(folder);
  std::string full = (base / path).lexically_normal().string();
  if (full.size() > 1 && full.back() == '/') full.pop_back();
  return full;
}

// "3", or "GPU-" ("MIG-": a slice of one) followed by hexadecimal digits and dashes.
bool is_gpu_name(const std::string& name) {
  const bool is_uuid = name.rfind("GPU-", 0) == 0 || name.rfind("MIG-", 0) == 0;
  const std::string_view allowed = is_uuid ? "0123456789abcdefABCDEF-" : "0123456789";
  const std::string_view rest = std::string_view(name).substr(is_uuid ? 4 : 0);
  const std::size_t max_length = is_uuid ? 36 : 2;
  return !rest.empty() && rest.size() <= max_length &&
         rest.find_first_not_of(allowed) == std::string_view::npos;
}

// What concerns several keys at once, and the defaults that follow from other keys.
class Finish {
 public:
  Finish(ReadConfig& read, const std::string& folder) : read_(read), c_(read.config) {
    complete_paths(folder);
    check_worker();
    check_pairs();
  }

 private:
  void problem(const std::string& key, const std::string& text) {
    const auto line = read_.lines.find(key);
    read_.problems.push_back({line == read_.lines.end() ? 0 : line->second, key + ": " + text});
  }

  bool refused(const std::string& key) const {
    return std::any_of(read_.problems.begin(), read_.problems.end(),
                       [&](const ConfigProblem& p) { return p.text.rfind(key + ":", 0) == 0; });
  }

  void complete_paths(const std::string& folder) {
    if (c_.broker.runtime_dir.empty()) c_.broker.runtime_dir = default_runtime_dir();
    for (const ConfigKey& key : config_keys(c_)) {
      const auto* text = std::get_if<TextKey>(&key.value);
      if (text == nullptr) continue;
      if (text->value == &c_.broker.socket && text->value->empty()) {
        *text->value = c_.broker.runtime_dir + "/facet.sock";
      }
      if (text->is_path) *text->value = complete_path(*text->value, folder);
      if (text->value->size() > text->max_length) {
        problem(std::string(key.name), std::to_string(text->value->size()) + " bytes, at most " +
                                           std::to_string(text->max_length) + " (" +
                                           std::string(key.reason) + ")");
      }
    }
  }

  void check_worker() {
    WorkerConfig& worker = c_.worker;
    // A budget of dispatches twice the batch keeps the lanes full while messages travel.
    if (read_.lines.count("worker.credits") == 0) worker.credits = 2 * worker.max_lanes;
    if (worker.engine == EngineKind::kModel && c_.model.path.empty() && !refused("worker.engine")) {
      problem("model.path", "must name a model directory when worker.engine is \"model\"");
    }
    std::set<std::string> seen;
    for (const std::string& gpu : worker.gpus) {
      if (!is_gpu_name(gpu)) {
        problem("worker.gpus", "\"" + gpu + "\" is neither an index nor a UUID (\"GPU-...\")");
      } else if (!seen.insert(gpu).second) {
        problem("worker.gpus", "\"" + gpu + "\" twice; workers share no GPU");
      }
    }
    const std::size_t num_gpus = worker.gpus.size();
    const auto count = static_cast<std::size_t>(worker.count);
    if (num_gpus > 0 && count > num_gpus) {
      problem("worker.count", std::to_string(count) + " workers for " + std::to_string(num_gpus) +
                                  " GPUs; workers share no GPU");
    }
    const std::size_t num_budgets = worker.device_max_memory_bytes.size();
    const std::size_t num_workers = count > 0 ? count : num_gpus;
    if (num_budgets > 1 && num_workers > 0 && num_budgets != num_workers) {
      problem("worker.device_max_memory", std::to_string(num_budgets) + " sizes for " +
                                              std::to_string(num_workers) +
                                              " workers; one for all, or one for each");
    }
  }

  void check_not_above(const char* key, std::int64_t value, const char* limit_key,
                       std::int64_t limit) {
    if (value <= limit) return;
    problem(key,
            std::to_string(value) + " is above " + limit_key + " (" + std::to_string(limit) + ")");
  }

  void check_pairs() {
    // A step gives each running sequence at least one token.
    check_not_above("worker.max_lanes", c_.worker.max_lanes, "worker.max_num_batched_tokens",
                    c_.worker.max_num_batched_tokens);
    check_not_above("broker.max_tokens_default", c_.broker.max_tokens_default,
                    "broker.max_tokens_limit", c_.broker.max_tokens_limit);
    check_not_above("supervisor.restart_backoff_ms", c_.supervisor.restart_backoff_ms,
                    "supervisor.restart_backoff_max_ms", c_.supervisor.restart_backoff_max_ms);
  }

  ReadConfig& read_;
  Config& c_;
};

// What a file holds must not break the one line that a problem has.
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  return text;
}

Error all_problems(ReadConfig& read, const std::string& name) {
  std::stable_sort(read.problems.begin(), read.problems.end(),
                   [](const auto& a, const auto& b) { return a.line < b.line; });
  std::string text;
  for (const ConfigProblem& problem : read.problems) {
    if (!text.empty()) text += '\n';
    text +=
        name + (problem.line > 0 ? ":" + std::to_string(problem.line) : "") + ": " +
        one_line(problem.text);
  }
  return Error(Code::kInvalidArgument, std::move(text));
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string& name,
                            const std::string& folder) {
  ReadConfig read = read_toml(text);
  if (!read.syntax_error) Finish(read, folder);
  if (!read.problems.empty()) return all_problems(read, name);
  return std::move(read.config);
}

Result<Config> load_config(const std::string& path) {
  const std::string text = FACET_TRY(read_file(path));
  return parse_config(text, path, fs::path(complete_path(path, "")).parent_path().string());
}

std::string default_runtime_dir() {
  const std::string given = environment("RUNTIME_DIRECTORY");
  if (!given.empty()) return given.substr(0, given.find(':'));  // systemd lists several with ':'
  if (geteuid() == 0) return "/run/facet";
  const std::string user_dir = environment("XDG_RUNTIME_DIR");
  if (!user_dir.empty()) return user_dir + "/facet";
  return "/tmp/facet-" + std::to_string(geteuid());
}

std::string default_socket_path() {
  return default_runtime_dir() + "/facet.sock";
}

int threads_per_worker(const WorkerConfig& worker, int num_workers, int num_cores) {
  if (worker.threads > 0) return worker.threads;
  return std::max(1, num_cores / std::max(1, num_workers));
}

}  // namespace facet
