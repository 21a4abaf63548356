#include "broker/cli/run_command.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "broker/cli/answer.h"
#include "broker/cli/daemon_session.h"
#include "broker/cli/exit_codes.h"
#include "broker/cli/standard_output.h"
#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr Nanos kPollTime = 200 * kMillisecond;
constexpr Nanos kCancelTime = 2 * kSecond;
constexpr Nanos kRetryFor = 60 * kSecond;  // somebody sits and waits

class AnswerStream {
 public:
  AnswerStream(DaemonSession& session, bool is_silent) : session_(session), is_silent_(is_silent) {}

  // Until the answer's end, an interruption, or standard output takes no more.
  void run(const RequestId& id) {
    Nanos cancel_deadline = 0;
    while (session_.client().num_unfinished() > 0) {
      for (const ClientEvent& event : session_.client().poll(kPollTime)) handle(event);
      if (const Status alive = session_.check(); !alive) {
        answer_.error.emplace(alive.error());
        break;
      }
      if (cancel_deadline == 0 && (stop_level() != StopLevel::kNone || !written_)) {
        is_interrupted_ = stop_level() != StopLevel::kNone;
        session_.client().cancel(id);
        cancel_deadline = monotonic_now() + kCancelTime;
      }
      if (cancel_deadline != 0 && monotonic_now() > cancel_deadline) break;
    }
  }
  bool is_interrupted() const { return is_interrupted_; }
  const Status& written() const { return written_; }  // why the text could not be shown
  const Answer& answer() const { return answer_; }

 private:
  void handle(const ClientEvent& event) {
    if (const auto* accepted = std::get_if<Accepted>(&event)) {
      say_wait(*accepted);
    } else if (const auto* tokens = std::get_if<Tokens>(&event)) {
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
  // Once, and only where there is something to wait for.
  static void say_wait(const Accepted& accepted) {
    if (accepted.queue_position == 0 || accepted.num_tokens > 0) return;
    const std::string eta =
        accepted.eta_ms ? ", about " + std::to_string((*accepted.eta_ms + 999) / 1000) + " s" : "";
    std::fprintf(stderr, "facet: %u requests are ahead%s\n", accepted.queue_position, eta.c_str());
  }
  void show(const std::string& text) {
    if (!is_silent_ && !text.empty() && written_) written_ = print_now(text);
  }

  DaemonSession& session_;
  const bool is_silent_;
  bool is_interrupted_ = false;
  Status written_;
  Answer answer_;
};

Status end_output(const AnswerStream& stream, bool json) {
  FACET_TRY_STATUS(stream.written());
  const Answer& answer = stream.answer();
  if (!json) {
    const bool has_line = !answer.text.empty() || !(answer.error || stream.is_interrupted());
    return has_line ? print_now("\n") : Status();
  }
  if (stream.is_interrupted()) return {};
  nlohmann::ordered_json out;
  write_answer(out, answer);
  return print_now(to_line(out));
}

int finish(const AnswerStream& stream, bool json) {
  const Answer& answer = stream.answer();
  if (const Status written = end_output(stream, json); !written) {
    if (written.error().code == Code::kCancelled) return kCliInterrupted;
    // A reader that went away (head, a pager) knows why.
    if (written.error().code != Code::kClosed) {
      std::fprintf(stderr, "facet: %s\n", written.error().message.c_str());
    }
    return kCliFailed;
  }
  if (stream.is_interrupted()) return kCliInterrupted;
  if (!answer.error) return kCliOk;
  if (!json) {
    std::fprintf(stderr, "facet: %s: %s\n", std::string(code_name(answer.error->code)).c_str(),
                 answer.error->message.c_str());
  }
  return answer.error->code == Code::kClosed ? kCliNoDaemon : kCliFailed;
}

Status check_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno_error(path, errno);
  if (S_ISDIR(info.st_mode)) {
    return Error(Code::kInvalidArgument, path + ": is a folder; `facet batch` takes folders");
  }
  if (!S_ISREG(info.st_mode)) return Error(Code::kInvalidArgument, path + ": is not a file");
  if (::access(path.c_str(), R_OK) != 0) return errno_error(path, errno);
  return {};
}

int usage(const Error& error) {
  std::fprintf(stderr, "facet: %s\n", error.message.c_str());
  return kCliUsage;
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
               "timings, and with --logprobs also logprobs");
  app.footer(R"(Examples:
  facet run photo.jpg -p "What is in this picture?"
  facet run before.png after.png -p "What changed?" --max-tokens 64
  facet run -p "No image at all." --temperature 0.7 --seed 7
  cat question.txt | facet run scan.png -p - --json
  facet run photo.jpg -p "How many?" --model ~/models/Qwen2.5-VL-3B-Instruct

Without a running daemon a private one is started, with --model DIR, else $FACET_MODEL, else the
demo model: configs/demo-model of the source tree in whose build/PRESET/bin this program lies, or
PREFIX/share/facet/demo-model of an installation with PREFIX/bin/facet.
Exit codes: 0 answered, 1 failed, 2 wrong use, 3 no daemon, 130 interrupted.)");
}

int run_command(const RunOptions& options) {
  const auto prompt = read_prompt(options.prompt);
  if (!prompt) return usage(prompt.error());
  std::vector<ImageSource> images;
  for (const std::string& path : options.images) {
    if (const Status usable = check_file(path); !usable) return usage(usable.error());
    images.push_back(ImageSource{path, nullptr});
  }
  const Status valid = check_request(options.prompt, *prompt, images.size());
  if (!valid) return usage(valid.error());
  install_stop_signals();
  ClientOptions client_options;
  client_options.retry_for = kRetryFor;
  DaemonOptions daemon = options.prompt.daemon;
  daemon.is_for_one = true;
  auto session = DaemonSession::open(daemon, client_options);
  if (!session) return report_no_daemon(session.error());
  if (const auto ready = session->wait_for_worker(); !ready) return report_no_daemon(ready.error());
  const auto id = session->client().submit(
      make_request(options.prompt, *prompt, images.size(), Priority::kInteractive), images);
  if (!id) return usage(id.error());
  AnswerStream stream(*session, options.json);
  stream.run(*id);
  return finish(stream, options.json);
}

}  // namespace facet
