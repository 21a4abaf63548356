#include "broker/cli/batch_items.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "common/base/unique_fd.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

// "./a//b" is "a/b". A path with ".." stays: "link/.." is where the link leads, then up.
std::string plain_path(const std::string& path) {
  const fs::path given(path);
  if (std::ranges::find(given, fs::path("..")) != given.end()) return path;
  return given.lexically_normal().string();
}

class Lister {
 public:
  Lister(bool recursive, const std::string& prompt) : recursive_(recursive), prompt_(prompt) {}

  Status add_source(const std::string& source) {
    std::error_code error;
    const auto status = fs::status(source, error);
    if (fs::exists(status)) return add_existing(source, fs::is_directory(status));
    if (source.find_first_of("*?[") == std::string::npos) {
      return errno_error(source, error ? error.value() : ENOENT);
    }
    glob_t found{};
    const int result = ::glob(source.c_str(), 0, nullptr, &found);
    Status status_of_all;
    for (std::size_t i = 0; result == 0 && i < found.gl_pathc && status_of_all; ++i) {
      status_of_all = add_existing(found.gl_pathv[i], fs::is_directory(found.gl_pathv[i], error));
    }
    ::globfree(&found);
    if (result != 0) return Error(Code::kNotFound, source + ": nothing matches");
    return status_of_all;
  }
  BatchItems take() { return std::move(all_); }

 private:
  Status add_existing(const std::string& path, bool is_folder) {
    if (is_folder) return add_folder(path);
    add_file(path, true);
    return {};
  }

  Status add_folder(const std::string& folder) {
    std::error_code error;
    std::vector<fs::directory_entry> entries;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      entries.push_back(*it);
    }
    if (error) return errno_error(folder, error.value());
    std::ranges::sort(entries, {}, &fs::directory_entry::path);
    for (const auto& entry : entries) {
      const auto status = entry.symlink_status(error);
      if (fs::is_symlink(status)) {
        ++all_.skipped_links;
      } else if (fs::is_directory(status)) {
        if (recursive_) FACET_TRY_STATUS(add_folder(entry.path().string()));
      } else if (fs::is_regular_file(status) && is_image_name(entry.path())) {
        add_file(entry.path().string(), false);
      } else {
        ++all_.skipped_other;
      }
    }
    return {};
  }

  void add_file(const std::string& given, bool follow_links) {
    const std::string path = plain_path(given);
    if (!seen_.insert(path).second) return;
    BatchItem item;
    item.index = static_cast<std::uint32_t>(all_.items.size());
    item.paths = {path};
    item.image = json_text(path);
    item.prompt = prompt_;
    item.follow_links = follow_links;
    all_.items.push_back(std::move(item));
  }

  const bool recursive_;
  const std::string& prompt_;
  BatchItems all_;
  std::unordered_set<std::string> seen_;
};

Error bad_line(const std::string& why) {
  return Error(Code::kInvalidArgument,
               why + "; a line is {\"image\": path or list of paths, \"question\": text}");
}

Result<BatchItem> parse_question(const std::string& line, const fs::path& folder) {
  const Json json = Json::parse(line, nullptr, false);
  if (json.is_discarded()) return bad_line("is not JSON");
  if (!json.is_object()) return bad_line("is not a JSON object");
  if (!json.contains("question")) return bad_line("has no key \"question\"");
  if (!json["question"].is_string()) return bad_line("\"question\" is not a string");
  BatchItem item;
  item.has_own_prompt = true;
  item.prompt = json["question"].get<std::string>();
  const Json image = json.contains("image") ? json["image"] : Json::array();
  for (const auto& one : image.is_array() ? image : Json::array({image})) {
    if (!one.is_string()) return bad_line("\"image\" is neither a string nor a list of strings");
    item.paths.push_back((folder / one.get<std::string>()).string());
  }
  item.image = json_text(image);
  return item;
}

}  // namespace

Result<BatchItems> list_images(const std::vector<std::string>& sources, bool recursive,
                               const std::string& prompt) {
  Lister lister(recursive, prompt);
  for (const std::string& source : sources) FACET_TRY_STATUS(lister.add_source(source));
  return lister.take();
}

Result<BatchItems> list_questions(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error(path, errno);
  const fs::path folder = fs::path(path).parent_path();
  BatchItems all;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto item = parse_question(line, folder);
    if (!item) {
      return Error(item.error().code,
                   path + ":" + std::to_string(number) + ": " + item.error().message);
    }
    item->index = static_cast<std::uint32_t>(all.items.size());
    all.items.push_back(*std::move(item));
  }
  return all;
}

Result<std::shared_ptr<const std::string>> read_image(const std::string& path, bool follow_links) {
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (follow_links ? 0 : O_NOFOLLOW);
  const UniqueFd file(::open(path.c_str(), flags));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return errno_error("cannot be read", errno);
  if (!S_ISREG(info.st_mode)) return Error(Code::kInvalidArgument, "is not a file");
  if (info.st_size == 0) return Error(Code::kInvalidArgument, "is empty");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > kMaxImageBytes) {
    return Error(Code::kTooLarge, std::to_string(size) + " bytes exceed the limit of " +
                                      std::to_string(kMaxImageBytes));
  }
  auto bytes = std::make_shared<std::string>(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = ::read(file.get(), bytes->data() + have, size - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("cannot be read", errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  bytes->resize(have);
  return std::shared_ptr<const std::string>(std::move(bytes));
}

}  // namespace facet
