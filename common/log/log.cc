#include "common/log/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <utility>

namespace facet {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::sink_ptr make_sink(const std::string& file, std::string& problem) {
  if (!file.empty()) {
    try {
      return std::make_shared<spdlog::sinks::basic_file_sink_st>(file);  // opened with O_APPEND
    } catch (const spdlog::spdlog_ex& error) {
      problem = error.what();
    }
  }
  return std::make_shared<spdlog::sinks::stderr_sink_st>();
}

}  // namespace

void set_log_level(LogLevel level) { spdlog::set_level(spdlog_level(level)); }

void start_log(const LogConfig& config, std::string_view process) {
  std::string problem;
  auto logger = std::make_shared<spdlog::logger>(std::string(process),
                                                 make_sink(config.file, problem));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %n %v");
  logger->set_level(spdlog_level(config.level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  if (!problem.empty()) spdlog::warn("log_file_unusable error=\"{}\"", problem);
}

}  // namespace facet
