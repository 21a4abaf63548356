// The loop of a batch: keeps the daemon busy, writes each answer down as it comes.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "broker/cli/batch_items.h"
#include "broker/cli/batch_row.h"
#include "broker/cli/daemon_session.h"
#include "broker/cli/past_answers.h"
#include "broker/cli/progress.h"
#include "broker/cli/prompt_options.h"
#include "broker/cli/result_file.h"

namespace facet {

struct BatchLimits {
  std::size_t in_flight = 0;                // 0 = twice what the workers hold
  std::size_t in_flight_bytes = 48u << 20;  // of images: below the daemon's quota of one client
};

class BatchRunner {
 public:
  BatchRunner(DaemonSession& session, const PromptOptions& options, const ServerFacts& facts,
              RowFormat format, const BatchLimits& limits, ResultFile& file, Progress& progress);

  enum class End {
    kDone,
    kInterrupted,
    kStopped,  // see error(): the daemon is lost, or the file cannot be written
  };
  End run(const BatchItems& items);

  const BatchCounts& counts() const { return counts_; }
  const std::vector<std::string>& failures() const { return failures_; }  // "image: why"
  const Error& error() const { return *stop_error_; }

 private:
  struct Asked {
    const BatchItem* item = nullptr;
    RowKey key;
    std::size_t bytes = 0;
    int tries = 0;
    Answer answer;
  };
  struct Again {
    const BatchItem* item = nullptr;
    int tries = 0;
  };

  void fill(Nanos now);
  bool has_room() const;
  void ask(const BatchItem& item, int tries);
  void handle(const ClientEvent& event);
  void failed(const RequestId& id, const Error& error);
  void write(const Asked& asked);
  void record_failure(const BatchItem& item, const RowKey& key, const Error& error);
  void note_past(const BatchItem& item, PastAnswers::Found found);
  void keep_house(Nanos now);
  void stop(Error error);

  DaemonSession& session_;
  const PromptOptions& options_;
  const std::string model_;
  const RowFormat format_;
  const BatchLimits limits_;
  ResultFile& file_;
  Progress& progress_;

  const std::vector<BatchItem>* items_ = nullptr;
  std::optional<PastAnswers> past_;
  std::size_t next_item_ = 0;
  std::deque<Again> again_;
  std::map<RequestId, Asked> asked_;
  std::size_t bytes_in_flight_ = 0;
  std::uint32_t capacity_ = 0;
  bool is_finishing_ = false;  // nothing new is asked
  bool is_quitting_ = false;
  Nanos last_sync_ = 0;
  Nanos last_facts_ = 0;
  BatchCounts counts_;
  std::vector<std::string> failures_;
  std::optional<Error> stop_error_;
};

}  // namespace facet
