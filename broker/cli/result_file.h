// The output of a batch: locked against a second batch, read back to resume, appended to a line at
// a time. A line is one write(), so a crash tears at most the last one, which the next run drops.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "broker/cli/batch_row.h"
#include "common/base/unique_fd.h"

namespace facet {

class ResultFile {
 public:
  // Creates the file or takes up an existing one. kInvalidArgument: another batch holds it, or it
  // has a line that no batch wrote (it is left untouched then). kIo.
  static Result<ResultFile> open(const std::string& path, RowFormat format);

  const std::vector<PastRow>& past() const { return past_; }
  bool dropped_torn_line() const { return dropped_torn_line_; }

  // Rewrites the file without these lines (a new file put in its place) and forgets them in past().
  // Returns how many there were.
  Result<std::size_t> drop(const std::function<bool(const PastRow&)>& is_unwanted);

  // kIo, kExhausted (disk full): nothing of the line stays.
  Status append(const std::string& line);
  Status sync();  // to the disk

 private:
  ResultFile(std::string path, RowFormat format) : path_(std::move(path)), format_(format) {}
  Status lock(int fd) const;
  Status load();
  Status replace(int fresh, const std::string& fresh_path,
                 const std::function<bool(const PastRow&)>& is_unwanted);

  std::string path_;
  RowFormat format_;
  UniqueFd file_;
  std::vector<PastRow> past_;
  bool dropped_torn_line_ = false;
};

}  // namespace facet
