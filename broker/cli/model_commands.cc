#include "broker/cli/model_commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "broker/cli/exit_codes.h"
#include "broker/cli/siblings.h"
#include "broker/cli/status_table.h"
#include "common/config/byte_size.h"

namespace facet {
namespace {

using Json = nlohmann::ordered_json;

bool is_bytes(const std::string& key) {
  return key == "bytes" || key.ends_with("_bytes");
}

std::string value_text(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number() && is_bytes(key)) {
    const std::string exact = value.dump();
    return std::string(exact.size() < 16 ? 16 - exact.size() : 0, ' ') + exact + "  " +
           human_bytes(value.get<double>());
  }
  return value.dump();
}

std::string label(const std::string& key) {
  std::string text = key.ends_with("_bytes") ? key.substr(0, key.size() - 6) : key;
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

void add_line(std::string& out, std::size_t indent, const std::string& name,
              const std::string& value) {
  constexpr std::size_t kNameWidth = 32;
  std::string line = std::string(indent, ' ') + name;
  if (line.size() < kNameWidth) line.resize(kNameWidth, ' ');
  out += line + " " + value + "\n";
}

void add_json(std::string& out, std::size_t indent, const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object() || (value.is_array() && !value.empty() && value.front().is_object())) {
      out += std::string(indent, ' ') + label(key) + "\n";
      if (value.is_object()) {
        add_json(out, indent + 2, value);
        continue;
      }
      for (const auto& item : value) {
        if (item.contains("name") && item.contains("bytes")) {  // a part of a sum: one line
          add_line(out, indent + 2, item["name"].get<std::string>(),
                   value_text("bytes", item["bytes"]));
        } else {
          add_json(out, indent + 2, item);
        }
      }
    } else {
      add_line(out, indent, label(key), value_text(key, value));
    }
  }
}

int fail(const Error& error, int code) {
  std::fprintf(stderr, "facet: %s\n", error.message.c_str());
  return code;
}

}  // namespace

void add_tokenize_command(CLI::App& app, TokenizeOptions& options) {
  app.add_option("model", options.model, "directory that holds tokenizer.json")->required();
  app.footer(
      R"(Standard input, all of it as one text, becomes the model's token ids, blanks between.
Example:
  printf 'How many circles?' | facet tokenize configs/demo-model)");
}

int tokenize_command(const TokenizeOptions& options) {
  auto program = find_sibling("facet-worker");
  if (!program) program = find_sibling("facet-worker-echo");  // a build without libtorch
  if (!program) return fail(program.error(), kCliFailed);
  return fail(exec_program(*program, {"--tokenize", options.model}), kCliFailed);
}

void add_plan_command(CLI::App& app, PlanOptions& options) {
  app.add_option("model", options.model, "Hugging Face directory of the model")->required();
  app.add_option("--gpu-memory", options.gpu_memory,
                 "budget of one worker, such as 15GB or 512MiB");
  app.add_option("--dtype", options.dtype, "auto, fp32 or bf16")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  app.add_flag("--json", options.json, "the plan as one JSON object");
  app.footer(R"(Every byte that a worker would take, before anything is loaded, and what fits.
Examples:
  facet plan ~/models/Qwen2.5-VL-3B-Instruct --gpu-memory 15GB
  facet plan configs/demo-model --dtype fp32 --json

Exit codes: 0 planned, 1 cannot be planned or does not fit, 2 wrong use.)");
}

std::string plan_table(const std::string& plan_json) {
  const Json json = Json::parse(plan_json, nullptr, false);
  if (!json.is_object()) return plan_json;
  std::string out;
  add_json(out, 0, json);
  return out;
}

int plan_command(const PlanOptions& options) {
  std::vector<std::string> arguments{"--plan", options.model, "--json"};
  if (!options.gpu_memory.empty()) {
    if (const auto size = parse_byte_size(options.gpu_memory); !size) {
      return fail(Error(Code::kInvalidArgument, "--gpu-memory: " + size.error().message),
                  kCliUsage);
    }
    arguments.insert(arguments.end(), {"--gpu-memory", options.gpu_memory});
  }
  if (!options.dtype.empty()) arguments.insert(arguments.end(), {"--dtype", options.dtype});
  const auto program = find_sibling("facet-worker");
  if (!program) {
    return fail(Error(Code::kNotFound,
                      program.error().message + " (this build has no libtorch, so it cannot plan)"),
                kCliFailed);
  }
  const auto output = run_program(*program, arguments);
  if (!output) return fail(output.error(), kCliFailed);
  std::fputs(options.json ? output->out.c_str() : plan_table(output->out).c_str(), stdout);
  return output->exit_code == 0 ? kCliOk : kCliFailed;
}

}  // namespace facet
