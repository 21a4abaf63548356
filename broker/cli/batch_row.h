// One line of a batch's output, JSONL or CSV, and what a later run reads back from it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/cli/answer.h"
#include "broker/cli/batch_items.h"

namespace facet {

enum class RowFormat { kJsonl, kCsv };

// "<content>-<settings>": the hash of the images' bytes (32 digits, or "unreadable") and that of
// everything else the answer depends on: prompt, system text, sampling, model.
struct RowKey {
  std::string content;
  std::string settings;
  std::string text() const { return content + "-" + settings; }
  bool operator==(const RowKey&) const = default;
};

// XXH3-128 over the bytes of all images, each with its length.
std::string content_hash(const std::vector<std::shared_ptr<const std::string>>& images);
std::string settings_hash(const GenerateRequest& request, const std::string& model);

struct BatchRow {
  const BatchItem* item = nullptr;
  RowKey key;
  std::string model;
  const Answer* answer = nullptr;
};
std::string format_row(const BatchRow& row, RowFormat format);
std::string_view csv_header();  // with its line end

// What matters of a line of an earlier run.
struct PastRow {
  std::string image;  // as BatchItem::image
  RowKey key;
  bool has_failed = false;
};
// Nothing: the line was not written by a batch.
std::optional<PastRow> parse_jsonl_row(std::string_view line);
std::optional<PastRow> parse_csv_row(const std::vector<std::string>& fields);

// Could this piece be the beginning of a line that was being written when the power went?
bool is_torn_row(std::string_view piece, RowFormat format, bool is_first);

}  // namespace facet
