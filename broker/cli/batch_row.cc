#include "broker/cli/batch_row.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "broker/cli/csv.h"
#include "common/protocol/codec.h"

namespace facet {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kCsvHeader =
    "index,image,question,key,model,text,finish_reason,prompt_tokens,image_tokens,"
    "completion_tokens,attempts,total_ms,code,error\n";
constexpr std::size_t kCsvColumns = 14;
constexpr std::size_t kCsvImage = 1, kCsvKey = 3, kCsvError = 13;
constexpr std::string_view kJsonlStart = "{\"index\":";

std::string hex(XXH128_hash_t hash) {
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

std::optional<RowKey> parse_key(const std::string& text) {
  const auto dash = text.find('-');
  if (dash == std::string::npos) return std::nullopt;
  return RowKey{text.substr(0, dash), text.substr(dash + 1)};
}

// One image stands by its plain name, several as a JSON list.
std::string csv_image(const std::string& image) {
  const Json json = Json::parse(image);
  return json.is_string() ? json.get<std::string>() : image;
}

std::string image_of_csv(const std::string& field) {
  return Json::parse(field, nullptr, false).is_array() ? field : Json(field).dump();
}

std::string format_csv(const BatchRow& row) {
  const Answer& answer = *row.answer;
  const Usage& usage = answer.done.usage;
  char total[32];
  std::snprintf(total, sizeof total, "%.3f", answer.done.timings.total_ms);
  const std::string reason =
      answer.error ? "error" : std::string(finish_reason_name(answer.done.reason));
  return csv_line({std::to_string(row.item->index), csv_image(row.item->image), row.item->prompt,
                   row.key.text(), row.model, answer.text, reason,
                   std::to_string(usage.prompt_tokens), std::to_string(usage.image_tokens),
                   std::to_string(usage.completion_tokens), std::to_string(answer.done.attempts),
                   total, answer.error ? std::string(code_name(answer.error->code)) : "",
                   answer.error ? answer.error->message : ""});
}

}  // namespace

std::string_view csv_header() {
  return kCsvHeader;
}

std::string content_hash(const std::vector<std::shared_ptr<const std::string>>& images) {
  if (images.size() == 1) return hex(XXH3_128bits(images[0]->data(), images[0]->size()));
  std::string all;
  for (const auto& image : images) all += content_hash({image});
  return hex(XXH3_128bits(all.data(), all.size()));
}

std::string settings_hash(const GenerateRequest& request, const std::string& model) {
  GenerateRequest plain = request;
  plain.deadline_ms = 0;  // how long one waits is not part of the answer
  const std::string bytes = encode_request_body(plain) + model;
  return hex(XXH3_128bits(bytes.data(), bytes.size())).substr(0, 16);
}

std::string format_row(const BatchRow& row, RowFormat format) {
  if (format == RowFormat::kCsv) return format_csv(row);
  Json json;
  json["index"] = row.item->index;
  json["image"] = Json::parse(row.item->image);
  json["question"] = row.item->prompt;
  json["key"] = row.key.text();
  json["model"] = row.model;
  write_answer(json, *row.answer);
  return to_line(json);
}

std::optional<PastRow> parse_jsonl_row(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("image") || !json.contains("key") ||
      !json["key"].is_string()) {
    return std::nullopt;
  }
  const auto key = parse_key(json["key"].get<std::string>());
  if (!key) return std::nullopt;
  return PastRow{json["image"].dump(), *key, json.contains("error")};
}

std::optional<PastRow> parse_csv_row(const std::vector<std::string>& fields) {
  if (fields.size() != kCsvColumns) return std::nullopt;
  const auto key = parse_key(fields[kCsvKey]);
  if (!key) return std::nullopt;
  return PastRow{image_of_csv(fields[kCsvImage]), *key, !fields[kCsvError].empty()};
}

bool is_torn_row(std::string_view piece, RowFormat format, bool is_first) {
  if (format == RowFormat::kJsonl) {
    return piece.starts_with(kJsonlStart) || kJsonlStart.starts_with(piece);
  }
  if (is_first) return kCsvHeader.starts_with(piece);
  return piece.front() >= '0' && piece.front() <= '9';
}

}  // namespace facet
