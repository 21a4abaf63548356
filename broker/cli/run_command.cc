#include "broker/cli/run_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "broker/cli/answer.h"
#include "broker/cli/daemon_session.h"
#include "broker/cli/exit_codes.h"
#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr Nanos kPollTime = 200 * kMillisecond;
constexpr Nanos kCancelTime = 2 * kSecond;
constexpr Nanos kRetryFor = 60 * kSecond;  // somebody sits and waits

// Writes to a terminal or pipe at once; false when nobody reads any more.
bool print_now(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
         std::fflush(stdout) == 0;
}

class AnswerStream {
 public:
  AnswerStream(DaemonSession& session, bool is_silent) : session_(session), is_silent_(is_silent) {}

  // False: interrupted, or standard output is closed.
  bool run(const RequestId& id) {
    Nanos cancel_deadline = 0;
    while (session_.client().num_unfinished() > 0) {
      for (const ClientEvent& event : session_.client().poll(kPollTime)) handle(event);
      if (const Status alive = session_.check(); !alive) {
        answer_.error.emplace(alive.error());
        break;
      }
      if (cancel_deadline == 0 && (stop_level() != StopLevel::kNone || !is_writable_)) {
        session_.client().cancel(id);
        cancel_deadline = monotonic_now() + kCancelTime;
      }
      if (cancel_deadline != 0 && monotonic_now() > cancel_deadline) break;
    }
    return cancel_deadline == 0;
  }
  const Answer& answer() const { return answer_; }

 private:
  void handle(const ClientEvent& event) {
    if (const auto* tokens = std::get_if<Tokens>(&event)) {
      answer_.add(*tokens);
      show(tokens->text);
    } else if (const auto* done = std::get_if<Done>(&event)) {
      answer_.finish(*done);
      show(done->text);
    } else if (const auto* failed = std::get_if<Failed>(&event)) {
      answer_.error.emplace(failed->error);
    } else if (const auto* retrying = std::get_if<Retrying>(&event)) {
      std::fprintf(stderr, "facet: %s; trying again\n", retrying->error.message.c_str());
    }
  }
  void show(const std::string& text) {
    if (!is_silent_ && !text.empty() && is_writable_) is_writable_ = print_now(text);
  }

  DaemonSession& session_;
  const bool is_silent_;
  bool is_writable_ = true;
  Answer answer_;
};

int finish(const AnswerStream& stream, bool is_whole, bool json) {
  const Answer& answer = stream.answer();
  if (!is_whole) {
    if (!json && !answer.text.empty()) print_now("\n");
    return kCliInterrupted;
  }
  if (json) {
    nlohmann::ordered_json out;
    write_answer(out, answer);
    print_now(to_line(out));
  } else if (!answer.text.empty() || !answer.error) {
    print_now("\n");
  }
  if (!answer.error) return kCliOk;
  if (!json) {
    std::fprintf(stderr, "facet: %s: %s\n", std::string(code_name(answer.error->code)).c_str(),
                 answer.error->message.c_str());
  }
  return answer.error->code == Code::kClosed ? kCliNoDaemon : kCliFailed;
}

}  // namespace

int report_no_daemon(const Error& error) {
  std::fprintf(stderr, "facet: %s\n", error.message.c_str());
  return error.code == Code::kCancelled         ? kCliInterrupted
         : error.code == Code::kInvalidArgument ? kCliUsage
                                                : kCliNoDaemon;
}

void add_run_command(CLI::App& app, RunOptions& options) {
  app.add_option("image", options.images, "image files (JPEG, PNG, WebP), shown in this order");
  add_prompt_options(app, options.prompt);
  app.add_flag("--json", options.json,
               "one JSON object at the end: text, token_ids, finish_reason, usage, attempts, "
               "timings");
  app.footer(R"(Examples:
  facet run photo.jpg -p "What is in this picture?"
  facet run before.png after.png -p "What changed?" --max-tokens 64
  facet run -p "No image at all." --temperature 0.7 --seed 7
  cat question.txt | facet run scan.png -p - --json
  facet run photo.jpg -p "How many?" --model ~/models/Qwen2.5-VL-3B-Instruct

Without a running daemon a private one is started, with --model DIR, else $FACET_MODEL, else the
demo model. Exit codes: 0 answered, 1 failed, 2 wrong use, 3 no daemon, 130 interrupted.)");
}

int run_command(const RunOptions& options) {
  const auto prompt = read_prompt(options.prompt);
  if (!prompt) {
    std::fprintf(stderr, "facet: %s\n", prompt.error().message.c_str());
    return kCliUsage;
  }
  std::vector<ImageSource> images;
  for (const std::string& path : options.images) {
    if (::access(path.c_str(), R_OK) != 0) {
      std::fprintf(stderr, "facet: %s\n", errno_error(path, errno).message.c_str());
      return kCliUsage;
    }
    images.push_back(ImageSource{path, nullptr});
  }
  install_stop_signals();
  ClientOptions client_options;
  client_options.retry_for = kRetryFor;
  auto session = DaemonSession::open(options.prompt.daemon, client_options);
  if (!session) return report_no_daemon(session.error());
  if (const auto ready = session->wait_for_worker(); !ready) return report_no_daemon(ready.error());
  const auto id = session->client().submit(
      make_request(options.prompt, *prompt, images.size(), Priority::kInteractive), images);
  if (!id) {
    std::fprintf(stderr, "facet: %s\n", id.error().message.c_str());
    return kCliUsage;
  }
  AnswerStream stream(*session, options.json);
  const bool is_whole = stream.run(*id);
  return finish(stream, is_whole, options.json);
}

}  // namespace facet
