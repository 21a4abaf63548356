#include "tests/parity/forced_run.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "common/base/check.h"

namespace facet {
namespace {

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "engine: %s\n", what.c_str());
  std::abort();
}

}  // namespace

void ForcedRun::add(std::size_t number, std::size_t first, std::size_t end) {
  added_.push_back({number, first, spec_of(*cases_[number].prompt, end, shelf_)});
}

void ForcedRun::run(Engine& engine) {
  for (Held& held : added_) start(engine, std::move(held));
  added_.clear();
  while (engine.has_work()) {
    const auto updates = engine.step();
    if (!updates) give_up(updates.error().message);
    for (const SequenceUpdate& update : *updates) take(engine, update);
  }
  FACET_CHECK(rows_.empty());
  FACET_CHECK(held_.empty());
}

void ForcedRun::start(Engine& engine, Held held) {
  const auto given = cases_[held.number].output_ids.first(held.step);
  held.spec.committed.assign(given.begin(), given.end());
  if (const Status added = engine.add(held.spec); !added) give_up(added.error().message);
  held_.push_back(std::move(held));
}

void ForcedRun::take(Engine& engine, const SequenceUpdate& update) {
  const auto at = std::find_if(held_.begin(), held_.end(), [&](const Held& held) {
    return held.spec.id == update.id && held.spec.attempt == update.attempt;
  });
  const bool dropped = at == held_.end();  // on a wrong way, and cancelled
  for (const std::int32_t token : update.token_ids) {
    FACET_CHECK(!rows_.empty());
    const std::vector<float> row = std::move(rows_.front());
    rows_.pop_front();
    FACET_CHECK(std::max_element(row.begin(), row.end()) - row.begin() == token);
    if (!dropped) take_token(engine, *at, token, row);
  }
  if (!update.ended || dropped || at->spec.attempt != update.attempt) return;
  if (update.end.kind == SequenceEnd::Kind::kError) give_up(update.end.message);
  held_.erase(at);
}

void ForcedRun::take_token(Engine& engine, Held& held, std::int32_t token,
                           std::span<const float> row) {
  ++num_steps;
  check_(held.number, held.step, row);
  const std::int32_t wanted = cases_[held.number].output_ids[held.step++];
  if (token == wanted) return;
  ++num_forced;
  if (held.step == held.spec.request.sampling.max_tokens) return;  // it ends all the same
  engine.cancel(held.spec.id, held.spec.attempt);
  Held again = held;
  ++again.spec.attempt;
  std::erase_if(held_, [&](const Held& h) { return h.spec.id == again.spec.id; });
  start(engine, std::move(again));
}

}  // namespace facet
