#include "broker/cli/top_command.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "broker/cli/exit_codes.h"
#include "broker/cli/run_command.h"
#include "broker/cli/standard_output.h"
#include "broker/cli/status_table.h"
#include "broker/cli/stop_signal.h"
#include "common/client/client.h"

namespace facet {
namespace {

constexpr Nanos kAnswerTime = 5 * kSecond;
constexpr const char* kFromTheTop = "\x1b[H";
constexpr const char* kClearLine = "\x1b[K";
constexpr const char* kClearBelow = "\x1b[J";

// Keys come one by one and unseen while it lives; the screen is what it was afterwards.
class Screen {
 public:
  Screen() : is_terminal_(isatty(STDOUT_FILENO) == 1) {
    if (!is_terminal_) return;
    has_keys_ = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &former_) == 0;
    if (has_keys_) {
      termios raw = former_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    static_cast<void>(print_now("\x1b[?1049h\x1b[?25l"));
  }
  ~Screen() {
    if (!is_terminal_) return;
    static_cast<void>(print_now("\x1b[?25h\x1b[?1049l"));
    if (has_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &former_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // A terminal shows it in the place of the last one, as far as it fits.
  Status show(const std::string& text) const {
    if (!is_terminal_) return print_now(text + "\n");
    winsize size{};
    const bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
    const std::size_t rows = is_known ? size.ws_row : 24;
    const std::size_t columns = is_known && size.ws_col > 0 ? size.ws_col : 80;
    std::string out = kFromTheTop;
    std::size_t begin = 0;
    for (std::size_t row = 0; row < rows && begin < text.size(); ++row) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      if (row > 0) out += "\r\n";
      out += text.substr(begin, std::min(end - begin, columns)) + kClearLine;
      begin = end + 1;
    }
    return print_now(out + kClearBelow);
  }

  // False: a key says that it is enough.
  bool wait(Nanos time) const {
    pollfd key{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const int milliseconds = static_cast<int>(time / kMillisecond);
    if (!has_keys_) {
      ::poll(nullptr, 0, milliseconds);
      return true;
    }
    if (::poll(&key, 1, milliseconds) <= 0) return true;
    char typed = 0;
    return read(STDIN_FILENO, &typed, 1) == 1 && typed != 'q' && typed != 'Q' && typed != 4;
  }

 private:
  const bool is_terminal_;
  bool has_keys_ = false;
  termios former_{};
};

std::string clock_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%H:%M:%S", &local)};
}

// The daemon may be replaced meanwhile: each look that finds none looks for it again.
class Watch {
 public:
  explicit Watch(const DaemonOptions& daemon) : daemon_(daemon) {}

  Result<std::string> look() {
    if (!client_) {
      const SocketChoice choice = FACET_TRY(choose_sockets(daemon_));
      const std::string socket = FACET_TRY(find_daemon(choice));
      client_.emplace(FACET_TRY(Client::connect(socket)));
    }
    auto json = client_->status(kAnswerTime);
    if (!json) client_.reset();
    return json;
  }

 private:
  DaemonOptions daemon_;
  std::optional<Client> client_;
};

}  // namespace

std::string rates_text(const std::string& before, const std::string& after, Nanos elapsed) {
  const auto old_json = nlohmann::json::parse(before, nullptr, false);
  const auto new_json = nlohmann::json::parse(after, nullptr, false);
  const auto is_sound = [](const nlohmann::json& json) {
    return json.is_object() && json.contains("epoch") && json.contains("counters") &&
           json.at("counters").is_object();
  };
  if (elapsed <= 0 || !is_sound(old_json) || !is_sound(new_json)) return "";
  if (old_json.at("epoch") != new_json.at("epoch")) return "";
  const auto rate = [&](const char* key) {
    const auto value = [key](const nlohmann::json& json) {
      const auto& counters = json.at("counters");
      return counters.contains(key) && counters.at(key).is_number() ? counters.at(key).get<double>()
                                                                    : 0.0;
    };
    return (value(new_json) - value(old_json)) * static_cast<double>(kSecond) /
           static_cast<double>(elapsed);
  };
  char text[96];
  std::snprintf(text, sizeof text, "%.1f accepted/s, %.1f dispatches/s, %.0f tokens/s",
                rate("accepted"), rate("dispatches"), rate("tokens"));
  return text;
}

void add_top_command(CLI::App& app, TopOptions& options) {
  add_daemon_options(app, options.daemon);
  app.add_option("-d,--interval", options.interval, "seconds between two looks; default 1")
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("-n,--count", options.count, "end after so many looks")
      ->check(CLI::PositiveNumber);
  app.footer(R"(`q` or Ctrl-C ends it. Without a terminal each look is written below the last.
Examples:
  facet top
  facet top -d 5 -n 12 > load.txt

Exit codes: 0 ended, 2 wrong use, 3 no daemon at the first look.)");
}

int top_command(const TopOptions& options) {
  install_stop_signals();
  Watch watch(options.daemon);
  auto json = watch.look();
  if (!json) return report_no_daemon(json.error());
  const Screen screen;
  const auto interval = static_cast<Nanos>(options.interval * static_cast<double>(kSecond));
  std::string before;
  Nanos looked = monotonic_now();
  for (int look = 1;; ++look) {
    std::string text = "facet top, " + clock_text();
    if (json) {
      const Nanos now = monotonic_now();
      const std::string rates = before.empty() ? "" : rates_text(before, *json, now - looked);
      const auto table = status_table(*json);
      text += (rates.empty() ? "" : ": " + rates) + "\n" +
              (table ? *table : table.error().message + "\n");
      before = *json;
      looked = now;
    } else {
      text += ": " + json.error().message + "\n";
      before.clear();
    }
    if (!screen.show(text)) return kCliFailed;
    if (look == options.count || !screen.wait(interval)) return kCliOk;
    if (stop_level() != StopLevel::kNone) return kCliOk;
    json = watch.look();
  }
}

}  // namespace facet
