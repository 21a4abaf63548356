// Broker <-> worker.
#include <array>

#include "common/protocol/codec.h"
#include "common/protocol/envelope.h"
#include "common/protocol/limits.h"
#include "common/protocol/request_codec.h"
#include "common/protocol/text_check.h"

namespace facet {
namespace {

using wire::MapReader;
using wire::MapWriter;
using wire::Need;
using wire::Path;

constexpr auto kRequired = Need::kRequired;
constexpr std::size_t kMaxHeld = 1 << 14;  // sequences of one worker
constexpr std::size_t kHashBytes = 16;

constexpr std::array<std::string_view, 6> kEndNames = {"",          "stop",  "length",
                                                       "cancelled", "error", "preempted"};

// ---- broker -> worker ----

void put_big_endian(std::uint64_t value, char* out) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
}

std::uint64_t get_big_endian(std::string_view in) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value = value << 8 | static_cast<std::uint8_t>(in[i]);
  return value;
}

void write_image(MapWriter map, const ImageDescriptor& image) {
  std::array<char, kHashBytes> hash{};
  put_big_endian(image.content_hash_high, hash.data());
  put_big_endian(image.content_hash_low, hash.data() + 8);
  map.uint("slot", image.slot);
  map.uint("generation", image.generation);
  map.uint("offset", image.offset);
  map.uint("width", image.width);
  map.uint("height", image.height);
  map.bytes("hash", {hash.data(), hash.size()});
}

void read_image(MapReader map, ImageDescriptor& image) {
  std::string_view hash;
  map.uint("slot", image.slot, kRequired);
  map.uint("generation", image.generation, kRequired);
  map.uint("offset", image.offset, kRequired);
  map.uint("width", image.width, kRequired);
  map.uint("height", image.height, kRequired);
  map.bytes("hash", hash, kHashBytes);
  if (map.failed()) return;
  image.content_hash_high = get_big_endian(hash);
  image.content_hash_low = get_big_endian(hash.substr(8));
}

Dispatch read_dispatch(MapReader& map) {
  Dispatch dispatch;
  map.id("id", dispatch.request.id);
  map.uint("attempt", dispatch.attempt, kRequired);
  if (const auto* request = map.map("request", kRequired)) {
    MapReader body(*request, Path{&map.path(), "request"}, map.error());
    wire::read_request_body(body, dispatch.request);
  }
  map.uint("max_tokens", dispatch.request.sampling.max_tokens, kRequired, UINT32_MAX, 1);
  map.uint("deadline_ms", dispatch.request.deadline_ms, kRequired);
  const SamplingParams& sampling = dispatch.request.sampling;
  if (!map.failed() && sampling.min_tokens > sampling.max_tokens) {
    map.fail(Code::kInvalidArgument, "max_tokens", "is less than the request's min_tokens");
  }
  if (const auto* images = map.array("images", kRequired, kMaxImages)) {
    const Path here{&map.path(), "images"};
    dispatch.images.resize(images->size);
    for (std::uint32_t i = 0; i < images->size; ++i) {
      read_image(MapReader(images->ptr[i], Path{&here, "", i}, map.error()), dispatch.images[i]);
    }
  }
  map.int32s("committed", dispatch.committed, kMaxMsgpackArray);
  if (!map.failed() && dispatch.images.size() != dispatch.request.num_images) {
    map.fail(Code::kInvalidArgument, "images", "their number is not that of the request");
  }
  return dispatch;
}

Resume read_resume(MapReader& map) {
  Resume resume;
  const auto* sequences = map.array("sequences", kRequired, kMaxHeld);
  if (sequences == nullptr) return resume;
  const Path here{&map.path(), "sequences"};
  resume.sequences.resize(sequences->size);
  for (std::uint32_t i = 0; i < sequences->size; ++i) {
    MapReader item(sequences->ptr[i], Path{&here, "", i}, map.error());
    item.id("id", resume.sequences[i].id);
    item.uint("attempt", resume.sequences[i].attempt, kRequired);
    item.uint("from", resume.sequences[i].from, kRequired);
  }
  return resume;
}

// ---- worker -> broker ----

void read_facts(MapReader map, ModelFacts& facts) {
  map.text("name", facts.name, kRequired, kMaxNameBytes);
  map.text("family", facts.family, kRequired, kMaxNameBytes);
  map.uint("max_model_len", facts.max_model_len, kRequired);
  map.uint("max_images", facts.max_images, kRequired);
  map.uint("max_token_text_bytes", facts.max_token_text_bytes, kRequired);
  map.uint("image_pixels_per_token", facts.image_pixels_per_token, kRequired);
  map.uint("image_tokens_min", facts.image_tokens_min, kRequired);
  map.uint("image_tokens_max", facts.image_tokens_max, kRequired);
}

void write_facts(MapWriter map, const ModelFacts& facts) {
  map.text("name", bounded_text(facts.name, kMaxNameBytes));
  map.text("family", bounded_text(facts.family, kMaxNameBytes));
  map.uint("max_model_len", facts.max_model_len);
  map.uint("max_images", facts.max_images);
  map.uint("max_token_text_bytes", facts.max_token_text_bytes);
  map.uint("image_pixels_per_token", facts.image_pixels_per_token);
  map.uint("image_tokens_min", facts.image_tokens_min);
  map.uint("image_tokens_max", facts.image_tokens_max);
}

Hello read_hello(MapReader& map) {
  Hello hello;
  map.uint("worker", hello.worker, kRequired);
  map.uint("incarnation", hello.incarnation, kRequired);
  map.uint("pid", hello.pid, kRequired);
  map.uint("credits", hello.credits, kRequired);
  map.boolean("settled", hello.is_settled, kRequired);
  if (const auto* model = map.map("model", kRequired)) {
    read_facts(MapReader(*model, Path{&map.path(), "model"}, map.error()), hello.model);
  }
  const auto* held = map.array("held", kRequired, kMaxHeld);
  if (held == nullptr) return hello;
  const Path here{&map.path(), "held"};
  hello.held.resize(held->size);
  for (std::uint32_t i = 0; i < held->size; ++i) {
    MapReader item(held->ptr[i], Path{&here, "", i}, map.error());
    item.id("id", hello.held[i].id);
    item.uint("attempt", hello.held[i].attempt, kRequired);
    item.uint("tokens", hello.held[i].num_tokens, kRequired);
    item.boolean("reads_images", hello.held[i].reads_images, kRequired);
    item.boolean("ended", hello.held[i].ended, kRequired);
  }
  return hello;
}

void read_end(MapReader map, SequenceEnd& end) {
  std::string_view kind;
  map.name("kind", kind, kRequired);
  bool known = false;
  for (std::size_t i = 1; i < kEndNames.size(); ++i) {
    if (kind != kEndNames[i]) continue;
    end.kind = static_cast<SequenceEnd::Kind>(i);
    known = true;
  }
  if (!known) map.fail(Code::kInvalidArgument, "kind", "unknown: " + printable_quote(kind));
  map.text("text", end.text, kRequired, kMaxMapBytes);
  map.uint("prompt_tokens", end.prompt_tokens, kRequired);
  map.uint("image_tokens", end.image_tokens, kRequired);
  map.uint("cached_tokens", end.cached_tokens, kRequired);
  if (end.kind != SequenceEnd::Kind::kError) return;
  std::string_view code;
  map.name("code", code, kRequired);
  end.code = code_from_name(code).value_or(Code::kInternal);
  map.text("message", end.message, kRequired, kMaxErrorBytes);
}

void write_end(MapWriter map, const SequenceEnd& end) {
  map.text("kind", kEndNames.at(static_cast<std::size_t>(end.kind)));
  map.text("text", end.text);
  map.uint("prompt_tokens", end.prompt_tokens);
  map.uint("image_tokens", end.image_tokens);
  map.uint("cached_tokens", end.cached_tokens);
  if (end.kind != SequenceEnd::Kind::kError) return;
  map.text("code", code_name(end.code));
  map.text("message", bounded_text(end.message, kMaxErrorBytes));
}

void read_update(MapReader map, SequenceUpdate& update) {
  map.id("id", update.id);
  map.uint("attempt", update.attempt, kRequired);
  map.uint("index", update.index, kRequired);
  map.int32s("ids", update.token_ids, kMaxMsgpackArray);
  map.texts("texts", update.token_texts, kRequired, kMaxMsgpackArray, kMaxMapBytes);
  map.logprobs("logprobs", update.logprobs);
  map.boolean("images_released", update.images_released, kRequired);
  if (!map.failed() && update.token_ids.size() != update.token_texts.size()) {
    map.fail(Code::kInvalidArgument, "texts", "their number is not that of `ids`");
  }
  if (const auto* end = map.map("end", Need::kOptional)) {
    update.ended = true;
    read_end(MapReader(*end, Path{&map.path(), "end"}, map.error()), update.end);
  }
}

void write_update(MapWriter map, const SequenceUpdate& update) {
  map.id(update.id);
  map.uint("attempt", update.attempt);
  map.uint("index", update.index);
  map.ints("ids", update.token_ids);
  map.texts("texts", update.token_texts);
  if (!update.logprobs.empty()) map.logprobs("logprobs", update.logprobs);
  map.boolean("images_released", update.images_released);
  if (!update.ended) return;
  const bool failed = update.end.kind == SequenceEnd::Kind::kError;
  write_end(map.map("end", failed ? 7 : 5), update.end);
}

Step read_step(MapReader& map) {
  Step step;
  map.uint("incarnation", step.incarnation, kRequired);
  map.uint("step", step.step, kRequired);
  map.uint("running", step.num_running, kRequired);
  map.uint("kv_free", step.kv_blocks_free, kRequired);
  map.uint("kv_total", step.kv_blocks_total, kRequired);
  map.uint("kv_cached", step.kv_blocks_cached, kRequired);
  map.boolean("settled", step.is_settled, kRequired);
  map.uint("idle_gap_ns", step.idle_gap_ns, kRequired);
  const auto* updates = map.array("updates", kRequired, kMaxHeld);
  if (updates == nullptr) return step;
  const Path here{&map.path(), "updates"};
  step.updates.resize(updates->size);
  for (std::uint32_t i = 0; i < updates->size && !map.failed(); ++i) {
    read_update(MapReader(updates->ptr[i], Path{&here, "", i}, map.error()), step.updates[i]);
  }
  return step;
}

// Parses, checks the envelope, and lets `read` fill the message for its type.
template <class Variant, class Read>
Result<Variant> decode(std::string_view bytes, Read read) {
  const auto handle = wire::parse(bytes, {kMaxWorkerMapBytes, kMaxWorkerItems});
  if (!handle) return wire::as_corrupt(handle.error());
  std::optional<Error> error;
  MapReader map(handle->get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  std::optional<Variant> message;
  if (!error) message = read(map, type);
  if (!error && !message) wire::refuse_type(map, type);
  if (error) return wire::as_corrupt(*error);
  return *std::move(message);
}

}  // namespace

Result<WorkerCommand> decode_worker_command(std::string_view bytes) {
  return decode<WorkerCommand>(
      bytes, [](MapReader& map, std::string_view type) -> std::optional<WorkerCommand> {
        if (type == "dispatch") return read_dispatch(map);
        if (type == "drain") return Drain{};
        if (type == "resume") return read_resume(map);
        if (type == "ack") {
          StepAck ack;
          map.uint("step", ack.step, kRequired);
          return ack;
        }
        if (type != "cancel") return std::nullopt;
        CancelSequence cancel;
        map.id("id", cancel.id);
        map.uint("attempt", cancel.attempt, kRequired);
        return cancel;
      });
}

Result<WorkerMessage> decode_worker_message(std::string_view bytes) {
  return decode<WorkerMessage>(
      bytes, [](MapReader& map, std::string_view type) -> std::optional<WorkerMessage> {
        if (type == "hello") return read_hello(map);
        if (type == "step") return read_step(map);
        return std::nullopt;
      });
}

void encode_message(const DispatchOrder& dispatch, std::string& bytes) {
  bytes.clear();
  wire::encode(bytes, "dispatch", 7, [&](MapWriter& map) {
    map.id(dispatch.id);
    map.uint("attempt", dispatch.attempt);
    map.encoded("request", dispatch.body);
    map.uint("max_tokens", dispatch.max_tokens);
    map.uint("deadline_ms", dispatch.deadline_ms);
    map.array("images", dispatch.images.size());
    for (const auto& image : dispatch.images) write_image(map.item(6), image);
    map.ints("committed", dispatch.committed);
  });
}

std::string encode_message(const CancelSequence& cancel) {
  return wire::encode("cancel", 2, [&](MapWriter& map) {
    map.id(cancel.id);
    map.uint("attempt", cancel.attempt);
  });
}

std::string encode_message(const Drain&) {
  return wire::encode("drain", 0, [](MapWriter&) {});
}

std::string encode_message(const Resume& resume) {
  return wire::encode("resume", 1, [&](MapWriter& map) {
    map.array("sequences", resume.sequences.size());
    for (const ResumePoint& point : resume.sequences) {
      MapWriter item = map.item(3);
      item.id(point.id);
      item.uint("attempt", point.attempt);
      item.uint("from", point.from);
    }
  });
}

std::string encode_message(const StepAck& ack) {
  return wire::encode("ack", 1, [&](MapWriter& map) { map.uint("step", ack.step); });
}

std::string encode_message(const Hello& hello) {
  return wire::encode("hello", 7, [&](MapWriter& map) {
    map.uint("worker", hello.worker);
    map.uint("incarnation", hello.incarnation);
    map.uint("pid", hello.pid);
    map.uint("credits", hello.credits);
    map.boolean("settled", hello.is_settled);
    write_facts(map.map("model", 8), hello.model);
    map.array("held", hello.held.size());
    for (const HeldSequence& held : hello.held) {
      MapWriter item = map.item(5);
      item.id(held.id);
      item.uint("attempt", held.attempt);
      item.uint("tokens", held.num_tokens);
      item.boolean("reads_images", held.reads_images);
      item.boolean("ended", held.ended);
    }
  });
}

std::string encode_message(const Step& step) {
  return wire::encode("step", 9, [&](MapWriter& map) {
    map.uint("incarnation", step.incarnation);
    map.uint("step", step.step);
    map.uint("running", step.num_running);
    map.uint("kv_free", step.kv_blocks_free);
    map.uint("kv_total", step.kv_blocks_total);
    map.uint("kv_cached", step.kv_blocks_cached);
    map.boolean("settled", step.is_settled);
    map.uint("idle_gap_ns", step.idle_gap_ns);
    map.array("updates", step.updates.size());
    for (const SequenceUpdate& update : step.updates) {
      const std::uint32_t keys = 6 + (update.logprobs.empty() ? 0 : 1) + (update.ended ? 1 : 0);
      write_update(map.item(keys), update);
    }
  });
}

}  // namespace facet
