#include "broker/cli/status_table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

namespace facet {
namespace {

using Json = nlohmann::json;
using Row = std::vector<std::string>;

std::string shown(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "-";
  const Json& value = object.at(key);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", value.get<double>());
    return text;
  }
  return value.dump();
}

const Json& part(const Json& object, const char* key) {
  static const Json kNothing = Json::object();
  return object.is_object() && object.contains(key) ? object.at(key) : kNothing;
}

double number(const Json& object, const char* key) {
  const Json& value = part(object, key);
  return value.is_number() ? value.get<double>() : 0.0;
}

std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += (i == 0 ? "  " : "  ") + row[i];
      if (i + 1 < row.size()) out.append(widths[i] - row[i].size(), ' ');
    }
    out += '\n';
  }
  return out;
}

// What a request that came now would wait for, where it would.
std::string wait_text(const Json& requests) {
  const double eta = number(requests, "eta_ms");
  if (eta < 1000) return "";
  char text[48];
  std::snprintf(text, sizeof text, "; a new one waits about %.0f s", eta / 1000);
  return text;
}

// Only where there is more than one: who has what.
std::string user_rows(const Json& users) {
  if (!users.is_array() || users.size() < 2) return "";
  std::vector<Row> rows{{"user", "unfinished", "queued", "images", "ledger"}};
  for (const Json& user : users) {
    rows.push_back({shown(user, "user"), shown(user, "requests"), shown(user, "queued"),
                    human_bytes(number(user, "ingest_bytes")),
                    human_bytes(number(user, "ledger_bytes"))});
  }
  return aligned(rows);
}

std::string kv_use(const Json& worker) {
  const double total = number(worker, "kv_blocks_total");
  if (total <= 0) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.0f%%",
                100.0 * (total - number(worker, "kv_blocks_free")) / total);
  return text;
}

std::string worker_rows(const Json& workers) {
  std::vector<Row> rows{{"worker", "state", "pid", "model", "running", "held", "credits", "kv used",
                         "finished", "tokens", "deaths"}};
  for (const Json& worker : workers) {
    rows.push_back({shown(worker, "index"), shown(worker, "state"), shown(worker, "pid"),
                    shown(worker, "model"), shown(worker, "running"), shown(worker, "outstanding"),
                    shown(worker, "credits"), kv_use(worker), shown(worker, "finished"),
                    shown(worker, "tokens"), shown(worker, "deaths")});
  }
  return aligned(rows);
}

Row store_row(const std::string& name, const Json& store) {
  const double page = std::max(number(store, "page_bytes"), 1.0);
  const std::string entries = store.contains("records")
                                  ? shown(store, "records") + " of " + shown(store, "max_records")
                                  : shown(store, "slots");
  return {name,
          human_bytes(number(store, "used") * page),
          human_bytes(number(store, "pages") * page),
          human_bytes(number(store, "high_mark") * page),
          human_bytes(number(store, "largest_free_run") * page),
          entries};
}

}  // namespace

std::string human_bytes(double bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024.0 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024.0;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text;
}

Result<std::string> status_table(const std::string& status_json) try {
  const Json json = Json::parse(status_json);
  if (!json.is_object()) return Error(Code::kCorrupt, "the daemon's status is not an object");
  const Json& requests = part(json, "requests");
  std::string out = "Facet " + shown(json, "version") + " at " + shown(json, "socket") +
                    ", broker pid " + shown(json, "pid") + ", up " + shown(json, "uptime_s") +
                    " s, configuration " + shown(json, "config_generation") +
                    (shown(json, "draining") == "yes" ? ", draining" : "") + "\n";
  out += "Queue: " + shown(requests, "queued_interactive") + " interactive, " +
         shown(requests, "queued_batch") + " batch; running " + shown(requests, "running") +
         "; finished and kept " + shown(requests, "terminal_records") + "; " +
         shown(requests, "completions_per_second") + " answers/s, " +
         shown(requests, "tokens_per_second") + " tokens/s" + wait_text(requests) + "\n";
  out += "Clients: " + shown(part(json, "clients"), "connections") + "; uploads " +
         shown(requests, "uploads") + "; images being decoded " + shown(requests, "decode_jobs") +
         (shown(json, "decoder_up") == "no" ? " (the decoder is down)" : "") + "\n";
  if (const Json& workers = part(json, "workers"); workers.is_array()) out += worker_rows(workers);
  out += user_rows(part(json, "users"));
  const Json& ring = part(json, "ring");
  out += aligned({{"memory", "used", "size", "highest", "largest free", "entries"},
                  store_row("ring, encoded", part(ring, "ingest")),
                  store_row("ring, pixels", part(ring, "pixels")),
                  store_row("ledger", part(json, "ledger"))});
  const std::string conservation = shown(json, "conservation");
  if (conservation != "ok" && conservation != "-") out += "LEAK: " + conservation + "\n";
  return out;
} catch (const nlohmann::json::exception& error) {
  return Error(Code::kCorrupt, "the daemon's status cannot be read: " + std::string(error.what()));
}

}  // namespace facet
