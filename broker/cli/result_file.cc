#include "broker/cli/result_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "broker/cli/row_reader.h"

namespace facet {
namespace {

Status write_all(int fd, std::string_view bytes, const std::string& path) {
  struct stat before {};
  if (::fstat(fd, &before) != 0) return errno_error(path, errno);
  ssize_t written = 0;
  do {
    written = ::write(fd, bytes.data(), bytes.size());
  } while (written < 0 && errno == EINTR);
  if (written == static_cast<ssize_t>(bytes.size())) return {};
  const int error = written < 0 ? errno : ENOSPC;  // a short write: the disk is full
  if (written > 0 && ::ftruncate(fd, before.st_size) != 0) return errno_error(path, errno);
  return errno_error(path, error);
}

void sync_folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (handle) ::fsync(handle.get());
}

}  // namespace

Status ResultFile::lock(int fd) const {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK) {
    return Error(Code::kInvalidArgument, path_ + ": another batch is writing to it");
  }
  return errno_error(path_, errno);
}

Result<ResultFile> ResultFile::open(const std::string& path, RowFormat format) {
  ResultFile result(path, format);
  while (true) {
    result.file_.reset(
        ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666));
    if (!result.file_) return errno_error(path, errno);
    FACET_TRY_STATUS(result.lock(result.file_.get()));
    // A batch that ended between open and lock may have put a new file in its place.
    struct stat held {
    }, named{};
    if (::fstat(result.file_.get(), &held) != 0) return errno_error(path, errno);
    if (!S_ISREG(held.st_mode)) return Error(Code::kInvalidArgument, path + ": is not a file");
    if (::stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino) break;
  }
  FACET_TRY_STATUS(result.load());
  return result;
}

Status ResultFile::load() {
  RowReader reader(file_.get(), format_);
  while (auto line = FACET_TRY(reader.next())) {
    if (line->row) {
      past_.push_back(*std::move(line->row));
    } else if (!line->is_header) {
      return Error(Code::kInvalidArgument,
                   path_ + ":" + std::to_string(line->number) +
                       ": was not written by a batch; the file is left as it is");
    }
  }
  if (!reader.rest().empty()) {
    if (!is_torn_row(reader.rest(), format_, !reader.has_lines())) {
      return Error(Code::kInvalidArgument,
                   path_ + ": its end was not written by a batch; the file is left as it is");
    }
    if (::ftruncate(file_.get(), static_cast<off_t>(reader.whole_bytes())) != 0) {
      return errno_error(path_, errno);
    }
    dropped_torn_line_ = true;
  }
  if (reader.whole_bytes() > 0) return {};
  sync_folder_of(path_);
  if (format_ != RowFormat::kCsv) return {};
  return append(std::string(csv_header()));
}

Status ResultFile::replace(int fresh, const std::string& fresh_path,
                           const std::function<bool(const PastRow&)>& is_unwanted) {
  FACET_TRY_STATUS(lock(fresh));  // held before it gets the name
  RowReader reader(file_.get(), format_);
  while (auto line = FACET_TRY(reader.next())) {
    if (line->row && is_unwanted(*line->row)) continue;
    FACET_TRY_STATUS(write_all(fresh, line->text, fresh_path));
  }
  if (::fsync(fresh) != 0) return errno_error(fresh_path, errno);
  if (::rename(fresh_path.c_str(), path_.c_str()) != 0) return errno_error(path_, errno);
  return {};
}

Result<std::size_t> ResultFile::drop(const std::function<bool(const PastRow&)>& is_unwanted) {
  std::vector<PastRow> kept;
  for (const PastRow& row : past_) {
    if (!is_unwanted(row)) kept.push_back(row);
  }
  const std::size_t dropped = past_.size() - kept.size();
  if (dropped == 0) return dropped;
  const std::string fresh_path = path_ + ".tmp";
  UniqueFd fresh(
      ::open(fresh_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666));
  if (!fresh) return errno_error(fresh_path, errno);
  const Status replaced = replace(fresh.get(), fresh_path, is_unwanted);
  if (!replaced) {
    ::unlink(fresh_path.c_str());
    return replaced.error();
  }
  sync_folder_of(path_);
  file_ = std::move(fresh);
  past_ = std::move(kept);
  return dropped;
}

Status ResultFile::append(const std::string& line) {
  return write_all(file_.get(), line, path_);
}

Status ResultFile::sync() {
  return ::fdatasync(file_.get()) == 0 ? Status() : Status(errno_error(path_, errno));
}

}  // namespace facet
