// An image from a client's bytes to the checksum of a reader, through what the daemon uses: chunks
// over ZeroMQ, one copy into the ring, a descriptor to the reader, who reads in place. Next to it a
// memcpy and the same checksum in one process, and the ring alone: the last two of the steps.
//   handoff_bench MEBIBYTES [count]
#include <sys/wait.h>
#include <xxhash.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <zmq.hpp>

#include "broker/service/router.h"
#include "broker/service/service_limits.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "common/shm/ring.h"
#include "tests/bench/bench_util.h"
#include "worker/service/broker_link.h"

namespace facet::bench {
namespace {

constexpr const char* kReader = "0.1.1";
constexpr int kSlots = 3;  // the ring goes round, so that its pages are not always in the cache

struct Shared {
  std::atomic<int> turn;       // of the client
  std::atomic<Nanos> started;  // by the client
  std::atomic<Nanos> finished;
  std::atomic<std::uint64_t> digest;
};

std::uint64_t checksum(std::span<const std::uint8_t> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

// The client: waits for its turn, then sends all chunks as fast as the socket takes them.
void send_images(const std::string& path, const std::vector<std::uint8_t>& image, Shared& shared) {
  zmq::context_t context(1);
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.connect("ipc://" + path);
  for (int done = 0;; ++done) {
    while (shared.turn <= done) pause_for(kMillisecond / 5);
    shared.started = monotonic_now();
    PutChunk put;
    put.id = RequestId::random();
    put.total_bytes = image.size();
    for (put.offset = 0; put.offset < image.size(); put.offset += kMaxChunkBytes) {
      const std::size_t bytes = std::min<std::size_t>(kMaxChunkBytes, image.size() - put.offset);
      dealer.send(zmq::buffer(encode_message(put)), zmq::send_flags::sndmore);
      dealer.send(zmq::buffer(image.data() + put.offset, bytes), zmq::send_flags::none);
    }
  }
}

void read_images(const std::string& path, std::span<const std::byte> ring, Shared& shared) {
  int lifeline[2];
  FACET_CHECK(pipe(lifeline) == 0);
  const auto reader = RingReader::attach(ring);
  auto link = BrokerLink::connect(path, kReader);
  FACET_CHECK(reader.has_value() && link.has_value());
  FACET_CHECK((*link)->send("hello").has_value());
  while (true) {
    (*link)->wait(kSecond / 2, lifeline[0]);
    while (auto message = (*link)->receive().value()) {
      const auto command = decode_worker_command(*message);
      const ImageDescriptor& image = std::get<Dispatch>(*command).images.at(0);
      const auto pixels = reader->pixels(
          {image.slot, image.generation, image.offset, image.width, image.height});
      FACET_CHECK(pixels.has_value());
      shared.digest = checksum(*pixels);
      FACET_CHECK(reader->is_current(image.slot, image.generation));
      shared.finished = monotonic_now();
    }
  }
}

struct Image {
  std::uint32_t width = 0, height = 0;
  std::uint64_t bytes() const { return std::uint64_t{3} * width * height; }
};

struct Ring {
  std::span<std::byte> memory;
  std::optional<RingWriter> writer;
};

Ring make_ring(std::uint64_t image_bytes) {
  const auto geometry = RingGeometry::from_bytes(1, kSlots * (image_bytes + kRingPageBytes));
  const std::uint64_t bytes = ring_object_bytes(geometry);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  FACET_CHECK(memory != MAP_FAILED);
  Ring ring{.memory = {static_cast<std::byte*>(memory), bytes}, .writer = std::nullopt};
  FACET_CHECK(format_ring(ring.memory, geometry).has_value());
  ring.writer = std::move(RingWriter::attach(ring.memory, 1).value());
  return ring;
}

class Broker {
 public:
  Broker(Ring& ring, Router& clients, Router& workers, const Image& image)
      : ring_(*ring.writer), clients_(clients), workers_(workers), image_(image) {}

  // Takes the chunks of one image and hands it on.
  void receive_image() {
    const std::uint32_t slot = reserve();
    std::uint64_t have = 0;
    while (have < image_.bytes()) {
      zmq_pollitem_t item{clients_.socket_handle(), 0, ZMQ_POLLIN, 0};
      zmq_poll(&item, 1, 1000);
      while (auto message = clients_.receive()) {
        const auto chunk = message->chunk->to_string_view();
        const auto decoded = decode_client_message(message->map.to_string_view(), chunk);
        const auto& put = std::get<PutChunk>(*decoded);
        std::memcpy(ring_.payload(slot).data() + put.offset, chunk.data(), chunk.size());
        have += chunk.size();
      }
    }
    hand_over(slot);
  }

  // The ring alone: bytes that are here already.
  void copy_image(const std::vector<std::uint8_t>& bytes) {
    const std::uint32_t slot = reserve();
    std::memcpy(ring_.payload(slot).data(), bytes.data(), bytes.size());
    hand_over(slot);
  }

 private:
  std::uint32_t reserve() {
    if (last_) ring_.free(*last_);
    last_ = ring_.reserve(RingArena::kPixel, RequestId::random(), image_.bytes(), image_.width,
                          image_.height).value();
    return *last_;
  }
  void hand_over(std::uint32_t slot) {
    ring_.publish(slot);
    const SlotRef ref = ring_.ref(slot);
    Dispatch dispatch;
    dispatch.attempt = 1;
    dispatch.request.id = RequestId::random();
    dispatch.request.messages.push_back({"user", {{ContentPart::Kind::kImage, {}, 0}}});
    dispatch.request.num_images = 1;
    dispatch.images.push_back({ref.slot, ref.generation, ref.offset, ref.width, ref.height, 0, 0});
    FACET_CHECK(workers_.send(kReader, encode_message(dispatch)) == Router::Sent::kYes);
  }

  RingWriter& ring_;
  Router& clients_;
  Router& workers_;
  const Image image_;
  std::optional<std::uint32_t> last_;
};

double milliseconds(Nanos time) { return static_cast<double>(time) / kMillisecond; }

// Waits for the reader; milliseconds since `started`.
double until_read(Shared& shared, std::uint64_t expected) {
  while (shared.finished == 0) pause_for(kMillisecond / 5);
  FACET_CHECK(shared.digest == expected);
  return milliseconds(shared.finished - shared.started);
}

std::unique_ptr<Router> open_router(zmq::context_t& context, const std::string& path, int mark,
                             std::int64_t max_frame_bytes) {
  return std::move(Router::bind(context, {.listen_fd = listen_at(path), .socket_path = path,
                                          .receive_mark = mark, .send_mark = 1000,
                                          .max_frame_bytes = max_frame_bytes,
                                          .max_connections = 16})
                       .value());
}

int run(int mebibytes, int count) {
  const Image image{1024, static_cast<std::uint32_t>(mebibytes * (1 << 20) / 3 / 1024)};
  std::vector<std::uint8_t> bytes(image.bytes());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * i >> 7);
  const std::uint64_t expected = checksum(bytes);
  const std::string path = "/tmp/facet-handoff-bench-" + std::to_string(getpid());
  Ring ring = make_ring(image.bytes());
  auto* state = shared<Shared>();
  const pid_t client = start([&] { send_images(path + ".c", bytes, *state); });
  const pid_t reader = start([&] { read_images(path + ".w", ring.memory, *state); });
  zmq::context_t context(1);
  const auto clients = open_router(context, path + ".c", kClientReceiveMark, kMaxClientFrameBytes);
  const auto workers = open_router(context, path + ".w", 1000, 1 << 20);
  while (!workers->receive()) pause_for(kMillisecond);

  Broker broker(ring, *clients, *workers, image);
  std::vector<std::uint8_t> copies[kSlots];
  for (auto& copy : copies) copy.resize(bytes.size());
  std::vector<double> whole, alone, control;
  for (int i = 0; i < count; ++i) {
    state->finished = 0;
    state->turn = i + 1;
    broker.receive_image();
    whole.push_back(until_read(*state, expected));

    state->finished = 0;
    state->started = monotonic_now();
    broker.copy_image(bytes);
    alone.push_back(until_read(*state, expected));

    auto& copy = copies[i % kSlots];
    const Nanos started = monotonic_now();
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    FACET_CHECK(checksum(copy) == expected);
    control.push_back(milliseconds(monotonic_now() - started));
  }
  kill(client, SIGKILL);
  kill(reader, SIGKILL);
  while (wait(nullptr) > 0) {
  }
  unlink((path + ".c").c_str());
  unlink((path + ".w").c_str());
  const double whole_ms = quantile(whole, 0.5), alone_ms = quantile(alone, 0.5),
               control_ms = quantile(control, 0.5);
  std::printf("{\"mebibytes\": %d, \"count\": %d, \"client_to_checksum_ms\": %.2f, "
              "\"ring_to_checksum_ms\": %.2f, \"memcpy_and_checksum_ms\": %.2f, "
              "\"ratio\": %.2f, \"ring_ratio\": %.2f}\n",
              mebibytes, count, whole_ms, alone_ms, control_ms, control_ms / whole_ms,
              control_ms / alone_ms);
  return 0;
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  const int mebibytes = argc > 1 ? std::atoi(argv[1]) : 12;
  if (mebibytes < 1 || mebibytes > 1024) {
    std::fprintf(stderr, "handoff_bench MEBIBYTES [count]: 1 to 1024 MiB\n");
    return 2;
  }
  return facet::bench::run(mebibytes, argc > 2 ? std::max(1, std::atoi(argv[2])) : 50);
}
