#include "worker/model/plan_report.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace facet {
namespace {

constexpr std::array<std::int32_t, 6> kLengths{512, 1024, 2048, 4096, 8192, 32768};

std::string device_text(const Device& device) {
  const bool cpu = device.kind == Device::Kind::kCpu;
  return (cpu ? "cpu:" : "cuda:") + std::to_string(device.index);
}

std::string line(const std::string& name, const std::string& value, const std::string& note) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), "  %-20s %12s  %s\n", name.c_str(), value.c_str(),
                note.c_str());
  return text.data();
}

}  // namespace

nlohmann::json plan_json(const MemoryPlan& plan) {
  nlohmann::json items = nlohmann::json::array();
  for (const MemoryItem& item : plan.items)
    items.push_back({{"name", item.name}, {"bytes", item.bytes}, {"note", item.note}});
  nlohmann::json lanes = nlohmann::json::array();
  for (const std::int32_t tokens : kLengths)
    if (tokens <= plan.max_model_len)
      lanes.push_back({{"tokens", tokens}, {"lanes", plan.lanes_at(tokens)}});
  const std::uint64_t used = plan.used_bytes();
  return {{"model", plan.model},
          {"family", plan.family},
          {"dtype", name_of(plan.type)},
          {"threads", plan.threads},
          {"devices", nlohmann::json::array({{{"device", device_text(plan.device)},
                                              {"budget_bytes", plan.budget_bytes},
                                              {"used_bytes", used},
                                              {"free_bytes", plan.budget_bytes - used},
                                              {"items", items}}})},
          {"fits",
           {{"max_model_len", plan.max_model_len},
            {"max_lanes", plan.max_lanes},
            {"max_num_batched_tokens", plan.max_step_tokens},
            {"kv_blocks", plan.kv_blocks},
            {"kv_block_tokens", plan.kv_block_tokens},
            {"kv_tokens", plan.kv_tokens()},
            {"kv_bytes_per_token", plan.kv_bytes_per_token},
            {"lanes_at", lanes},
            {"image_tokens_max", plan.image_tokens_max},
            {"image_pixels_max", plan.image_pixels_max}}}};
}

std::string plan_text(const MemoryPlan& plan) {
  std::string text = plan.model + " (" + plan.family + ") in " + std::string(name_of(plan.type)) +
                     " on " + device_text(plan.device) + ", budget " +
                     bytes_text(plan.budget_bytes) + "\n";
  for (const MemoryItem& item : plan.items)
    text += line(item.name, bytes_text(item.bytes), item.note);
  text += line("left over", bytes_text(plan.budget_bytes - plan.used_bytes()), "");
  text += "What fits\n";
  text += line("context", std::to_string(plan.max_model_len), "tokens of prompt and answer");
  text += line("KV pool", std::to_string(plan.kv_tokens()),
               "tokens in " + std::to_string(plan.kv_blocks) + " blocks of " +
                   std::to_string(plan.kv_block_tokens));
  for (const std::int32_t tokens : kLengths)
    if (tokens <= plan.max_model_len)
      text += line("lanes", std::to_string(plan.lanes_at(tokens)),
                   "at " + std::to_string(tokens) + " tokens each");
  text += line("largest image", std::to_string(plan.image_tokens_max),
               "tokens (" + std::to_string(plan.image_pixels_max) + " pixels after resizing)");
  return text;
}

}  // namespace facet
