// Reads a result file line by line (records of a CSV may span several) without holding all of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "broker/cli/batch_row.h"

namespace facet {

class RowReader {
 public:
  RowReader(int fd, RowFormat format) : fd_(fd), format_(format) {}

  struct Line {
    std::string text;            // with its line end
    std::optional<PastRow> row;  // nothing: not a batch's line, or the CSV header
    bool is_header = false;
    std::size_t number = 0;  // from 1
  };
  // The next whole line; nothing at the end or when only a torn piece is left. kIo.
  Result<std::optional<Line>> next();

  std::uint64_t whole_bytes() const { return offset_; }  // up to the end of the last line
  std::string_view rest() const { return buffer_; }      // what follows it, at the end
  bool has_lines() const { return number_ > 0; }

 private:
  std::size_t line_bytes() const;  // of the first whole line in the buffer, or 0

  int fd_;
  RowFormat format_;
  std::string buffer_;
  std::uint64_t offset_ = 0;
  std::size_t number_ = 0;
  bool is_at_end_ = false;
};

}  // namespace facet
