// Runs of consecutive rows of the encoder's output pool, one for each image. A run is held by the
// sequences that wait to read it; afterwards it stays as cached, until its room is needed, for
// a sequence with the same image. First fit; runs are few.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "common/base/result.h"
#include "worker/engine/content_key.h"

namespace facet {

class RowPool {
 public:
  explicit RowPool(std::int32_t total) : total_(total) {}

  std::int32_t num_held() const;
  std::int32_t num_cached() const;

  // The first row of a run for content of this name (may be none), held once more: the run that has
  // the content or is about to get it, else a new one, for which cached ones may go. count > 0.
  std::optional<std::int32_t> acquire(std::int32_t count, const ContentKey& key);
  void release(std::int32_t first);  // a row that acquire() returned, once for each time

  // Does the run have its content? The caller says so after the encoder ran.
  bool is_filled(std::int32_t first) const;
  void set_filled(std::int32_t first);

  // No holder is left; cached runs may be.
  Status check_not_held() const;

 private:
  struct Run {
    std::int32_t rows = 0;
    std::int32_t holders = 0;
    bool is_filled = false;
    ContentKey key;
    std::uint64_t unused_since = 0;
  };
  using Runs = std::map<std::int32_t, Run>;  // by first row

  std::optional<std::int32_t> find_gap(std::int32_t count, bool beside_held_only) const;
  void drop(Runs::iterator run);
  void drop_longest_unused();

  std::int32_t total_;
  Runs runs_;
  std::unordered_map<ContentKey, std::int32_t> by_key_;
  std::uint64_t next_use_ = 0;
};

}  // namespace facet
