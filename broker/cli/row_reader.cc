#include "broker/cli/row_reader.h"

#include <unistd.h>

#include <cerrno>

#include "broker/cli/csv.h"

namespace facet {
namespace {

constexpr std::size_t kMaxLineBytes = 16 << 20;  // an answer and its question have at most 8 MiB

}  // namespace

std::size_t RowReader::line_bytes() const {
  if (format_ == RowFormat::kCsv) return parse_csv_record(buffer_).bytes;
  const auto end = buffer_.find('\n');
  return end == std::string::npos ? 0 : end + 1;
}

Result<std::optional<RowReader::Line>> RowReader::next() {
  std::size_t bytes = line_bytes();
  while (bytes == 0 && !is_at_end_) {
    char chunk[65536];
    const ssize_t got =
        ::pread(fd_, chunk, sizeof chunk, static_cast<off_t>(offset_ + buffer_.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("read", errno);
    if (buffer_.size() > kMaxLineBytes) {
      return Error(Code::kInvalidArgument, "line " + std::to_string(number_ + 1) + " exceeds " +
                                               std::to_string(kMaxLineBytes) + " bytes");
    }
    is_at_end_ = got == 0;
    buffer_.append(chunk, static_cast<std::size_t>(got));
    if (std::string_view(chunk, static_cast<std::size_t>(got)).find('\n') !=
        std::string_view::npos) {
      bytes = line_bytes();
    }
  }
  if (bytes == 0) return std::optional<Line>();
  Line line;
  line.text = buffer_.substr(0, bytes);
  line.number = ++number_;
  buffer_.erase(0, bytes);
  offset_ += bytes;
  line.is_header = format_ == RowFormat::kCsv && line.number == 1 && line.text == csv_header();
  if (format_ == RowFormat::kJsonl) {
    line.row = parse_jsonl_row(std::string_view(line.text).substr(0, bytes - 1));
  } else if (!line.is_header) {
    line.row = parse_csv_row(parse_csv_record(line.text).fields);
  }
  return std::optional<Line>(std::move(line));
}

}  // namespace facet
