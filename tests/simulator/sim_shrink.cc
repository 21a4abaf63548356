#include "tests/simulator/sim_shrink.h"

#include <algorithm>
#include <sstream>
#include <utility>
#include <vector>

namespace facet::sim {
namespace {

// Calls use(name, field) for every option.
template <class Options, class Use>
void each_option(Options& o, Use use) {
  use("seed", o.seed);
  use("max_events", o.max_events);
  use("num_workers", o.num_workers);
  use("credits", o.credits);
  use("num_clients", o.num_clients);
  use("requests_per_client", o.requests_per_client);
  use("ingest_pages", o.ingest_pages);
  use("pixel_pages", o.pixel_pages);
  use("crash_rate", o.crash_rate);
  use("hang_rate", o.hang_rate);
  use("decoder_crash_rate", o.decoder_crash_rate);
  use("broker_crash_rate", o.broker_crash_rate);
  use("disconnect_rate", o.disconnect_rate);
  use("block_rate", o.block_rate);
  use("cancel_chance", o.cancel_chance);
  use("poison_chance", o.poison_chance);
  use("bad_image_chance", o.bad_image_chance);
  use("preempt_chance", o.preempt_chance);
  use("duplicate_chance", o.duplicate_chance);
  use("own_faults", o.own_faults);
  use("short_deadlines", o.short_deadlines);
  use("descriptors", o.descriptors);
  use("dispatch", o.dispatch);
}

// Smaller lives, the most telling first.
std::vector<SimOptions> smaller(const SimOptions& from) {
  std::vector<SimOptions> tries;
  const auto with = [&](auto change) {
    SimOptions o = from;
    change(o);
    if (describe(o) != describe(from)) tries.push_back(o);
  };
  for (auto field : {&SimOptions::num_clients, &SimOptions::num_workers,
                     &SimOptions::requests_per_client, &SimOptions::credits}) {
    with([field](SimOptions& o) { o.*field = 1; });
    with([field](SimOptions& o) { o.*field = std::max(1u, o.*field / 2); });
  }
  for (auto field :
       {&SimOptions::crash_rate, &SimOptions::hang_rate, &SimOptions::decoder_crash_rate,
        &SimOptions::broker_crash_rate, &SimOptions::disconnect_rate, &SimOptions::block_rate,
        &SimOptions::cancel_chance, &SimOptions::poison_chance, &SimOptions::bad_image_chance,
        &SimOptions::preempt_chance, &SimOptions::duplicate_chance}) {
    with([field](SimOptions& o) { o.*field = 0.0; });
  }
  with([](SimOptions& o) { o.own_faults = false; });
  with([](SimOptions& o) { o.dispatch = 0; });
  with([](SimOptions& o) { o.short_deadlines = false; });
  with([](SimOptions& o) { o.descriptors = false; });
  with([](SimOptions& o) { o.max_events /= 2; });
  with([](SimOptions& o) { o.max_events -= (o.max_events + 15) / 16; });
  return tries;
}

}  // namespace

std::string describe(const SimOptions& options) {
  std::ostringstream out;
  out.precision(17);
  each_option(options, [&out](const char* name, const auto& field) {
    out << (out.tellp() > 0 ? " " : "") << name << '=' << field;
  });
  return out.str();
}

std::optional<SimOptions> parse_options(std::string_view text, SimOptions base) {
  std::istringstream words{std::string(text)};
  std::string word;
  while (words >> word) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) return std::nullopt;
    const std::string key = word.substr(0, equals);
    std::istringstream value(word.substr(equals + 1));
    bool is_read = false;
    each_option(base, [&](const char* name, auto& field) {
      if (key == name) is_read = static_cast<bool>(value >> field) && value.peek() == EOF;
    });
    if (!is_read) return std::nullopt;
  }
  return base;
}

std::optional<Failure> run_life(const SimOptions& options) {
  Simulation simulation(options);
  auto violation = simulation.run();
  if (!violation) return std::nullopt;
  return Failure{options, simulation.num_events(), std::move(*violation)};
}

Failure shrink(Failure failing, int max_runs) {
  // Nothing after the violation matters.
  const auto cut = [](Failure& failure) {
    failure.options.max_events = std::min(failure.options.max_events, failure.num_events);
  };
  cut(failing);
  bool got_smaller = true;
  while (got_smaller) {
    got_smaller = false;
    for (const SimOptions& options : smaller(failing.options)) {
      if (max_runs-- <= 0) return failing;
      auto failure = run_life(options);
      if (!failure) continue;
      failing = std::move(*failure);
      cut(failing);
      got_smaller = true;
      break;
    }
  }
  return failing;
}

}  // namespace facet::sim
