// An image from a client's bytes to the checksum of a reader, through what the daemon and its
// client library use: as a descriptor or as chunks over ZeroMQ, into the ring, its slot's number
// to the reader, who reads in place. Next to it a memcpy and the same checksum in one process, and
// the ring alone: the last two of the steps.
//   handoff_bench MEBIBYTES [count]
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <xxhash.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <zmq.hpp>

#include "broker/service/fd_port.h"
#include "broker/service/router.h"
#include "broker/service/service_limits.h"
#include "common/base/unique_fd.h"
#include "common/client/fd_link.h"
#include "common/client/link.h"
#include "common/client/upload.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "common/shm/ring.h"
#include "tests/bench/bench_util.h"
#include "tests/unit/protocol/dispatch_order.h"
#include "worker/service/mail_wait.h"

namespace facet::bench {
namespace {

constexpr std::uint64_t kEpoch = 1;
constexpr int kBacklog = 16;
constexpr int kSlots = 3;  // the ring goes round, so that its pages are not always in the cache

// How the image gets from the client to the broker.
enum class Way {
  kMemfd,   // it lies in a memfd
  kBytes,   // it lies in memory and is written into a memfd that has served before
  kFile,    // it lies in a file (in the page cache), and is read into such a memfd
  kFirst,   // the same into a new memfd: the first image of a client
  kChunks,  // it lies in memory and goes over ZeroMQ
};
constexpr int kWays = 5;

struct Shared {
  std::atomic<int> turn;  // of the client
  std::atomic<Way> way;
  std::atomic<Nanos> started;  // by the client
  std::atomic<Nanos> finished;
  std::atomic<std::uint64_t> digest;
};

template <class Bytes>
std::uint64_t checksum(const Bytes& bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

struct ClientImage {
  std::shared_ptr<const std::string> bytes;
  std::string file;
};

// The client: waits for its turn, hands the image over as the library does, and then asks.
class BenchClient {
 public:
  BenchClient(const std::string& path, const ClientImage& image, Shared& shared)
      : image_(image),
        shared_(shared),
        link_(path),
        fds_(path),
        ready_(Upload(RequestId::random(), {{"", image.bytes}}).next_memfd().value().value()) {
    FACET_CHECK(fds_.open(monotonic_now()));
  }

  [[noreturn]] void run() {
    for (int done = 0;; ++done) {
      while (shared_.turn <= done) pause_for(kMillisecond / 5);
      const RequestId id = RequestId::random();
      shared_.started = monotonic_now();
      switch (shared_.way.load()) {
        case Way::kMemfd:
          hand_over(ready_.memory.fd(), {id, 0, ready_.put.total_bytes, true});
          break;
        case Way::kBytes:
          fill_and_hand_over(id, {"", image_.bytes}, &spare_);
          break;
        case Way::kFile:
          fill_and_hand_over(id, {image_.file, nullptr}, &spare_);
          break;
        case Way::kFirst:
          fill_and_hand_over(id, {image_.file, nullptr}, nullptr);
          break;
        case Way::kChunks:
          send_chunks(id);
          break;
      }
      GenerateRequest ask;
      ask.id = id;
      ask.messages.push_back({"user", {{ContentPart::Kind::kImage, {}, 0}}});
      ask.num_images = 1;
      while (!link_.send(encode_message(ask))) link_.wait(kSecond, true, -1);
      if (is_taken_) await_answer();  // then the memfd may be written again
    }
  }

 private:
  void fill_and_hand_over(const RequestId& id, ImageSource source,
                          std::optional<ImageMemfd>* spare) {
    Upload upload(id, {std::move(source)});
    auto memfd = upload.next_memfd(spare != nullptr ? std::move(*spare) : std::nullopt);
    FACET_CHECK(memfd.has_value() && memfd->has_value());
    (*memfd)->put.wants_taken = true;
    hand_over((*memfd)->memory.fd(), (*memfd)->put);
    if (spare != nullptr) *spare = std::move((*memfd)->memory);
  }
  void hand_over(int fd, const PutFd& put) {
    FACET_CHECK(fds_.send(encode_message(put), fd));
    await_answer();
  }
  // As the library: the image is stored, or taken, which is as good for the request.
  void await_answer() {
    while (true) {
      const auto answer = fds_.receive();
      FACET_CHECK(answer.has_value());
      if (*answer) {
        FACET_CHECK(!std::holds_alternative<Refused>(**answer));
        is_taken_ = std::holds_alternative<Taken>(**answer);
        return;
      }
      link_.wait(kSecond, false, fds_.fd());
    }
  }
  void send_chunks(const RequestId& id) {
    Upload upload(id, {{"", image_.bytes}});
    while (auto chunk = upload.next().value()) {
      if (!link_.send(chunk->map, chunk->bytes, chunk->owner)) {
        link_.wait(kSecond, true, -1);
        continue;
      }
      upload.advance();
    }
  }

  const ClientImage& image_;
  Shared& shared_;
  Link link_;
  FdLink fds_;
  const Upload::Memfd ready_;
  std::optional<ImageMemfd> spare_;
  bool is_taken_ = false;  // the image handed over last: not stored yet
};

void read_images(const MailboxFds& fds, std::span<const std::byte> ring, Shared& shared) {
  int lifeline[2];
  FACET_CHECK(pipe(lifeline) == 0);
  const auto reader = RingReader::attach(ring);
  auto mailbox = MailboxReader::attach(fds.memory.get(), fds.doorbell.get());
  FACET_CHECK(reader.has_value() && mailbox.has_value());
  while (true) {
    wait_for_mail(*mailbox, nullptr, lifeline[0], kSecond / 2);
    while (auto message = mailbox->receive(kEpoch, kMaxWorkerMapBytes).value()) {
      const auto command = decode_worker_command(*message);
      const ImageDescriptor& image = std::get<Dispatch>(*command).images.at(0);
      const auto pixels =
          reader->pixels({image.slot, image.generation, image.offset, image.width, image.height});
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
  Broker(Ring& ring, Router& clients, int fd_listener, MailboxWriter& worker, const Image& image)
      : ring_(*ring.writer),
        clients_(clients),
        worker_(worker),
        image_(image),
        fds_(fd_listener, fd_limits(), [this](Event event) { take(std::get<ClientPut>(event)); }) {}

  // Takes one image, in whatever way it comes, and hands it on when it is asked for.
  void receive_image() {
    slot_ = reserve();
    have_ = 0;
    while (true) {
      zmq_pollitem_t items[] = {{clients_.socket_handle(), 0, ZMQ_POLLIN, 0},
                                {nullptr, fds_.poll_fd(), ZMQ_POLLIN, 0}};
      zmq_poll(items, 2, 1000);
      while (fds_.receive(monotonic_now())) {
      }
      fds_.allow_taken();
      while (auto message = clients_.receive()) {
        const auto chunk =
            message->chunk ? std::optional(message->chunk->to_string_view()) : std::nullopt;
        const auto decoded = decode_client_message(message->map.to_string_view(), chunk);
        if (const auto* put = std::get_if<PutChunk>(&*decoded)) {
          take(ClientPut{1, *put, *chunk});
        } else {
          FACET_CHECK(have_ == image_.bytes());
          return hand_over(slot_);
        }
      }
    }
  }

  // The ring alone: bytes that are here already.
  void copy_image(const std::string& bytes) {
    const std::uint32_t slot = reserve();
    std::memcpy(ring_.payload(slot).data(), bytes.data(), bytes.size());
    hand_over(slot);
  }

 private:
  void take(const ClientPut& put) {
    FACET_CHECK(!put.malformed);
    std::memcpy(ring_.payload(slot_).data() + put.chunk.offset, put.bytes.data(), put.bytes.size());
    have_ += put.bytes.size();
    if (!put.wants_answer || have_ < image_.bytes()) return;
    std::deque<Event> gone;
    fds_.send({put.client, Stored{put.chunk.id, put.chunk.image}}, gone);
  }
  std::uint32_t reserve() {
    if (last_) ring_.free(*last_);
    last_ = ring_
                .reserve(RingArena::kPixel, RequestId::random(), image_.bytes(), image_.width,
                         image_.height)
                .value();
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
    dispatch.request.sampling.max_tokens = 1;
    dispatch.images.push_back({ref.slot, ref.generation, ref.offset, ref.width, ref.height, 0, 0});
    FACET_CHECK(worker_.send(encode_message(dispatch)).has_value());
  }

  RingWriter& ring_;
  Router& clients_;
  MailboxWriter& worker_;
  const Image image_;
  FdPort fds_;
  std::uint32_t slot_ = 0;
  std::uint64_t have_ = 0;
  std::optional<std::uint32_t> last_;
};

double milliseconds(Nanos time) {
  return static_cast<double>(time) / kMillisecond;
}

// Waits for the reader; milliseconds since `started`.
double until_read(Shared& shared, std::uint64_t expected) {
  while (shared.finished == 0) pause_for(kMillisecond / 5);
  FACET_CHECK(shared.digest == expected);
  return milliseconds(shared.finished - shared.started);
}

std::unique_ptr<Router> open_router(zmq::context_t& context, const std::string& path, int mark,
                                    std::int64_t max_frame_bytes) {
  return std::move(Router::bind(context, {.listen_fd = listen_at(path, kBacklog).release(),
                                          .socket_path = path,
                                          .receive_mark = mark,
                                          .send_mark = 1000,
                                          .max_frame_bytes = max_frame_bytes,
                                          .max_connections = 16})
                       .value());
}

ClientImage make_image(const std::string& path, std::uint64_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * i >> 7);
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  for (std::size_t have = 0; have < size;) {
    const ssize_t got = write(file.get(), bytes.data() + have, size - have);
    FACET_CHECK(got > 0);
    have += static_cast<std::size_t>(got);
  }
  return {std::make_shared<const std::string>(std::move(bytes)), path};
}

// Into memory that it has used before, as a program that reads one image after the other.
void read_file(const std::string& path, std::string& into) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  for (std::size_t have = 0; have < into.size();) {
    const ssize_t got = read(file.get(), into.data() + have, into.size() - have);
    FACET_CHECK(got > 0);
    have += static_cast<std::size_t>(got);
  }
}

struct Samples {
  std::vector<double> ways[kWays];
  std::vector<double> ring, memcpy_and_checksum, file_too;  // the last: and read the file before
};

void measure(Broker& broker, Shared& state, const ClientImage& image, int count, Samples& samples) {
  const std::string& bytes = *image.bytes;
  const std::uint64_t expected = checksum(bytes);
  std::vector<std::string> copies(kSlots, std::string(bytes.size(), '\0'));
  std::string read_in(bytes.size(), '\0');
  int turn = 0;
  for (int i = 0; i < count; ++i) {
    for (int way = 0; way < kWays; ++way) {
      state.finished = 0;
      state.way = static_cast<Way>(way);
      state.turn = ++turn;
      broker.receive_image();
      samples.ways[way].push_back(until_read(state, expected));
    }
    state.finished = 0;
    state.started = monotonic_now();
    broker.copy_image(bytes);
    samples.ring.push_back(until_read(state, expected));

    auto& copy = copies[static_cast<std::size_t>(i % kSlots)];
    const Nanos started = monotonic_now();
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    FACET_CHECK(checksum(copy) == expected);
    samples.memcpy_and_checksum.push_back(milliseconds(monotonic_now() - started));
    const Nanos from_file = monotonic_now();
    read_file(image.file, read_in);
    std::memcpy(copy.data(), read_in.data(), bytes.size());
    FACET_CHECK(checksum(copy) == expected);
    samples.file_too.push_back(milliseconds(monotonic_now() - from_file));
  }
}

void report(int mebibytes, int count, Samples& samples) {
  const double control = quantile(samples.memcpy_and_checksum, 0.5);
  const double file_control = quantile(samples.file_too, 0.5);
  const double ring = quantile(samples.ring, 0.5);
  double ways[kWays];
  for (int way = 0; way < kWays; ++way) ways[way] = quantile(samples.ways[way], 0.5);
  const auto of = [&](Way way) { return ways[static_cast<int>(way)]; };
  std::printf(
      "{\"mebibytes\": %d, \"count\": %d, \"descriptor_ms\": %.2f, "
      "\"bytes_to_descriptor_ms\": %.2f, \"file_to_descriptor_ms\": %.2f, "
      "\"first_file_to_descriptor_ms\": %.2f, "
      "\"chunks_ms\": %.2f, \"ring_ms\": %.2f, \"memcpy_and_checksum_ms\": %.2f, "
      "\"read_memcpy_and_checksum_ms\": %.2f, \"ratio\": %.2f, "
      "\"bytes_ratio\": %.2f, \"file_ratio\": %.2f, \"first_file_ratio\": %.2f, "
      "\"chunks_ratio\": %.2f, "
      "\"ring_ratio\": %.2f}\n",
      mebibytes, count, of(Way::kMemfd), of(Way::kBytes), of(Way::kFile), of(Way::kFirst),
      of(Way::kChunks), ring, control, file_control, control / of(Way::kMemfd),
      control / of(Way::kBytes), file_control / of(Way::kFile), file_control / of(Way::kFirst),
      control / of(Way::kChunks), control / ring);
}

int run(int mebibytes, int count) {
  const Image image{1024, static_cast<std::uint32_t>(mebibytes * (1 << 20) / 3 / 1024)};
  const std::string path = "/tmp/facet-handoff-bench-" + std::to_string(getpid());
  const std::string socket = path + ".c";
  const std::string fd_socket = socket + std::string(kFdSocketSuffix);
  const ClientImage bytes = make_image(path + ".image", image.bytes());
  Ring ring = make_ring(image.bytes());
  auto* state = shared<Shared>();
  MailboxFds mailbox = create_mailbox().value();
  const UniqueFd fd_listener = listen_at(fd_socket, kBacklog, SOCK_SEQPACKET | SOCK_NONBLOCK);
  const pid_t client = start([&] { BenchClient(socket, bytes, *state).run(); });
  const pid_t reader = start([&] { read_images(mailbox, ring.memory, *state); });
  Samples samples;
  {
    zmq::context_t context(1);
    const auto clients = open_router(context, socket, kClientReceiveMark, kMaxClientFrameBytes);
    auto worker = MailboxWriter::attach(std::move(mailbox), kEpoch).value();
    Broker broker(ring, *clients, fd_listener.get(), worker, image);
    measure(broker, *state, bytes, count, samples);
    kill(client, SIGKILL);
    kill(reader, SIGKILL);
  }
  while (wait(nullptr) > 0) {
  }
  for (const std::string& file : {socket, fd_socket, path + ".image"}) {
    unlink(file.c_str());
  }
  report(mebibytes, count, samples);
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
