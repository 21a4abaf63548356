#include "tests/parity/drive_engine.h"

#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "common/base/check.h"

namespace facet {
namespace {

[[noreturn]] void fail(const Error& error) {
  std::fprintf(stderr, "engine: %s\n", error.message.c_str());
  std::abort();
}

void add(Engine& engine, const SequenceSpec& spec) {
  if (const Status added = engine.add(spec); !added) fail(added.error());
}

}  // namespace

std::vector<DrivenAnswer> drive(Engine& engine, std::vector<SequenceSpec> specs) {
  std::vector<DrivenAnswer> answers(specs.size());
  std::unordered_map<RequestId, std::size_t> index;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    specs[i].id = RequestId::random();
    index.emplace(specs[i].id, i);
    add(engine, specs[i]);
  }
  while (engine.has_work()) {
    auto updates = engine.step();
    if (!updates) fail(updates.error());
    for (const SequenceUpdate& update : *updates) {
      const std::size_t i = index.at(update.id);
      DrivenAnswer& answer = answers[i];
      FACET_CHECK(update.index == answer.token_ids.size());
      FACET_CHECK(update.token_ids.size() == update.token_texts.size());
      answer.token_ids.insert(answer.token_ids.end(), update.token_ids.begin(),
                              update.token_ids.end());
      for (const std::string& text : update.token_texts) answer.text += text;
      answer.images_released |= update.images_released;
      if (!update.ended) continue;
      if (update.end.kind == SequenceEnd::Kind::kPreempted) {
        specs[i].committed = answer.token_ids;
        ++specs[i].attempt;
        add(engine, specs[i]);
        continue;
      }
      answer.text += update.end.text;
      answer.end = update.end;
    }
  }
  return answers;
}

}  // namespace facet
