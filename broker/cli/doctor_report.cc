#include "broker/cli/doctor_report.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace facet {
namespace {

constexpr std::size_t kLevelWidth = 9;
constexpr std::size_t kSubjectWidth = 13;

const char* level_name(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "";
}

// Further lines of a text stand below its first.
std::string indented(const std::string& text, std::size_t width) {
  std::string out;
  for (const char c : text) {
    out += c;
    if (c == '\n') out.append(width, ' ');
  }
  return out;
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

}  // namespace

void DoctorReport::ok(std::string subject, std::string text) {
  findings.push_back({std::move(subject), Level::kOk, std::move(text), ""});
}

void DoctorReport::warn(std::string subject, std::string text, std::string advice) {
  findings.push_back({std::move(subject), Level::kWarning, std::move(text), std::move(advice)});
}

void DoctorReport::fail(std::string subject, std::string text, std::string advice) {
  findings.push_back({std::move(subject), Level::kError, std::move(text), std::move(advice)});
}

bool DoctorReport::has_errors() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& f) { return f.level == Level::kError; });
}

std::string DoctorReport::text() const {
  std::string out;
  std::size_t errors = 0;
  std::size_t warnings = 0;
  for (const Finding& finding : findings) {
    errors += finding.level == Level::kError ? 1 : 0;
    warnings += finding.level == Level::kWarning ? 1 : 0;
    out += padded(level_name(finding.level), kLevelWidth) + padded(finding.subject, kSubjectWidth) +
           indented(finding.text, kLevelWidth + kSubjectWidth) + "\n";
    if (!finding.advice.empty())
      out += padded("", kLevelWidth + kSubjectWidth) + "-> " + finding.advice + "\n";
  }
  out += std::to_string(errors) + (errors == 1 ? " error, " : " errors, ") +
         std::to_string(warnings) + (warnings == 1 ? " warning\n" : " warnings\n");
  return out;
}

std::string DoctorReport::json(const std::string& version) const {
  auto checks = nlohmann::json::array();
  int errors = 0;
  int warnings = 0;
  for (const Finding& finding : findings) {
    errors += finding.level == Level::kError ? 1 : 0;
    warnings += finding.level == Level::kWarning ? 1 : 0;
    checks.push_back({{"subject", finding.subject},
                      {"level", level_name(finding.level)},
                      {"text", finding.text},
                      {"advice", finding.advice}});
  }
  auto cards = nlohmann::json::array();
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    cards.push_back({{"index", i},
                     {"uuid", gpus[i].uuid},
                     {"name", gpus[i].name},
                     {"compute_capability",
                      std::to_string(gpus[i].major) + "." + std::to_string(gpus[i].minor)},
                     {"memory_bytes", gpus[i].total_bytes},
                     {"free_bytes", gpus[i].free_bytes}});
  }
  const nlohmann::json whole{{"version", version},   {"ok", errors == 0}, {"errors", errors},
                             {"warnings", warnings}, {"checks", checks},  {"gpus", cards}};
  return whole.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace facet
