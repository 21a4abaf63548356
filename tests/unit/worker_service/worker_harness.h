// Plays supervisor and broker for one real facet-worker-echo process.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "common/control/broker_page.h"
#include "common/control/fds.h"
#include "common/control/worker_page.h"
#include "common/protocol/codec.h"
#include "common/shm/mailbox.h"
#include "common/shm/ring.h"
#include "common/shm/shared_region.h"
#include "tests/patience.h"

namespace facet {

class WorkerHarness {
 public:
  explicit WorkerHarness(const std::string& worker_keys = "") {
    char folder[] = "/tmp/facet-worker-XXXXXX";
    EXPECT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    std::ofstream(folder_ + "/facet.toml")
        << "[worker]\nengine = \"echo\"\ncount = 1\n" << worker_keys << "\n";
    make_ring();
    page_fd_.reset(memfd_create("page", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(page_fd_.get(), 4096), 0);
    for (std::size_t i = 0; i < 2; ++i) {
      int pipe_ends[2];
      EXPECT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
      sentinels_[i].reset(pipe_ends[0]);
      sentinels_write_[i].reset(pipe_ends[1]);
    }
    bell_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    page_ = static_cast<WorkerPage*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd_.get(), 0));
    auto mailbox = create_mailbox();
    EXPECT_TRUE(mailbox.has_value());
    mailbox_ = std::move(*mailbox);
    broker_fd_.reset(memfd_create("broker", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(broker_fd_.get(), 4096), 0);
    broker_ = static_cast<BrokerPage*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, broker_fd_.get(), 0));
    broker_->magic = BrokerPage::kMagic;
    publish(1);
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    lifeline_read_.reset(ends[0]);
    lifeline_.reset(ends[1]);
    router_.set(zmq::sockopt::linger, 0);
    router_.set(zmq::sockopt::router_mandatory, true);
    router_.bind("ipc://" + socket_path());
  }

  ~WorkerHarness() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    munmap(page_, 4096);
    munmap(broker_, 4096);
    std::filesystem::remove_all(folder_);
  }

  void start(std::uint64_t incarnation = 77) {
    incarnation_ = incarnation;
    pid_ = fork();
    ASSERT_GE(pid_, 0);
    if (pid_ > 0) {
      for (UniqueFd& end : sentinels_write_) end.reset();
      return;
    }
    // Out of the way of the target numbers first.
    const int ring = fcntl(memory_.read_only.get(), F_DUPFD, 20);
    const int page = fcntl(page_fd_.get(), F_DUPFD, 20);
    const int life = fcntl(lifeline_read_.get(), F_DUPFD, 20);
    const int bell = fcntl(bell_.get(), F_DUPFD, 20);
    const int broker = fcntl(broker_fd_.get(), F_DUPFD, 20);
    const int sentinels[] = {fcntl(sentinels_write_[0].get(), F_DUPFD, 20),
                             fcntl(sentinels_write_[1].get(), F_DUPFD, 20)};
    const int mailbox = fcntl(mailbox_.memory.get(), F_DUPFD, 20);
    const int doorbell = fcntl(mailbox_.doorbell.get(), F_DUPFD, 20);
    dup2(mailbox, kWorkerMailboxFd);
    dup2(doorbell, kWorkerDoorbellFd);
    dup2(ring, kWorkerRingFd);
    dup2(page, kWorkerPageFd);
    dup2(life, kWorkerLifelineFd);
    dup2(bell, kWorkerLastWordsFd);
    dup2(broker, kWorkerBrokerPageFd);
    for (std::size_t i = 0; i < 2; ++i) dup2(sentinels[i], kWorkerSentinelFds[i]);
    for (int fd = 12; fd < 64; ++fd) close(fd);
    const std::string program = std::string(FACET_BIN_DIR) + "/facet-worker-echo";
    const std::string config = folder_ + "/facet.toml";
    const std::string life_name = std::to_string(incarnation);
    execl(program.c_str(), program.c_str(), "--config", config.c_str(), "--worker", "0",
          "--incarnation", life_name.c_str(), "--worker-socket", socket_path().c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }

  // The next message, or nothing within 10 s (tests/patience.h).
  std::optional<WorkerMessage> receive() {
    zmq::message_t identity, map;
    router_.set(zmq::sockopt::rcvtimeo, patient_ms(10'000));
    do {  // what was meant for a former broker may still come, and is dropped
      if (!router_.recv(identity) || !router_.recv(map)) return std::nullopt;
      EXPECT_TRUE(identity.to_string().starts_with("0." + std::to_string(incarnation_) + "."));
    } while (identity.to_string() != worker_identity());
    EXPECT_FALSE(map.more());
    auto message = decode_worker_message(map.to_string_view());
    EXPECT_TRUE(message.has_value()) << (message ? "" : message.error().message);
    if (!message) return std::nullopt;
    return std::move(*message);
  }

  // Answered with `answer`, which must be sent before all else.
  std::optional<Hello> expect_hello(const Resume& answer = {}) {
    auto hello = expect_unanswered_hello();
    if (hello) send(encode_message(answer));
    return hello;
  }
  std::optional<Hello> expect_unanswered_hello() {
    auto message = receive();
    EXPECT_TRUE(message.has_value());
    if (!message || !std::holds_alternative<Hello>(*message)) return std::nullopt;
    return std::get<Hello>(*message);
  }

  // The life of the broker that serves from now on; 0: none does. What the worker has said to the
  // former one and was not received is lost.
  void publish(std::uint64_t epoch) {
    epoch_ = epoch;
    writer_.reset();
    if (epoch != 0) open_mailbox();
    broker_->epoch = epoch;
  }

  void send(const std::string& payload) {
    EXPECT_TRUE(writer_->send(payload).has_value());
    EXPECT_TRUE(
        eventually([&] { return writer_->flush().has_value() && !writer_->has_waiting(); }));
  }

  // Puts RGB pixels into the ring as the broker and a decoder would.
  ImageDescriptor put_image(const RequestId& id, std::uint32_t width, std::uint32_t height,
                            std::uint8_t fill) {
    const std::uint64_t bytes = std::uint64_t{3} * width * height;
    auto slot = ring_->reserve(RingArena::kPixel, id, bytes, width, height);
    EXPECT_TRUE(slot.has_value());
    auto pixels = ring_->payload(*slot);
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      pixels[i] = static_cast<std::uint8_t>(fill + i * 5);
    }
    ring_->publish(*slot);
    const SlotRef ref = ring_->ref(*slot);
    ImageDescriptor image;
    image.slot = ref.slot;
    image.generation = ref.generation;
    image.offset = ref.offset;
    image.width = width;
    image.height = height;
    return image;
  }

  // Waits for the process's end; its wait status, or nothing within 10 s (tests/patience.h).
  std::optional<int> wait_for_exit() {
    int status = 0;
    if (!eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; })) return std::nullopt;
    pid_ = -1;
    return status;
  }

  static bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + patient(std::chrono::seconds(10));
    while (std::chrono::steady_clock::now() < deadline) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  std::string socket_path() const { return folder_ + "/workers.sock"; }
  // How often the worker rang since the last look.
  std::uint64_t take_rings() {
    std::uint64_t count = 0;
    return read(bell_.get(), &count, sizeof count) == sizeof count ? count : 0;
  }
  // Whether a sentinel has seen the process die.
  bool is_death_seen() const {
    for (const UniqueFd& end : sentinels_) {
      pollfd polled{.fd = end.get(), .events = POLLIN, .revents = 0};
      if (poll(&polled, 1, 0) > 0) return true;
    }
    return false;
  }
  const WorkerPage& page() const { return *page_; }
  RingWriter& ring() { return *ring_; }
  void cut_lifeline() { lifeline_.reset(); }
  pid_t pid() const { return pid_; }

 private:
  std::string worker_identity() const {
    return "0." + std::to_string(incarnation_) + "." + std::to_string(epoch_);
  }
  void open_mailbox() {
    auto writer = MailboxWriter::attach(
        {UniqueFd(dup(mailbox_.memory.get())), UniqueFd(dup(mailbox_.doorbell.get()))}, epoch_);
    ASSERT_TRUE(writer.has_value());
    writer_.emplace(std::move(*writer));
  }
  void make_ring() {
    const RingGeometry geometry{.ingest_pages = 4, .pixel_pages = 64};
    auto memory = create_shared_memory("facet-test-ring", ring_object_bytes(geometry));
    ASSERT_TRUE(memory.has_value());
    memory_ = std::move(*memory);
    auto region = MappedRegion::map(memory_.read_write.get(), MapAccess::kReadWrite);
    ASSERT_TRUE(region.has_value());
    region_.emplace(std::move(*region));
    ASSERT_TRUE(format_ring(region_->writable_bytes(), geometry).has_value());
    auto ring = RingWriter::attach(region_->writable_bytes(), 1);
    ASSERT_TRUE(ring.has_value());
    ring_.emplace(std::move(*ring));
  }

  std::string folder_;
  SharedMemory memory_;
  std::optional<MappedRegion> region_;
  std::optional<RingWriter> ring_;
  UniqueFd page_fd_;
  WorkerPage* page_ = nullptr;
  UniqueFd bell_;
  MailboxFds mailbox_;
  std::optional<MailboxWriter> writer_;  // of the broker that serves
  UniqueFd broker_fd_;
  BrokerPage* broker_ = nullptr;
  std::uint64_t epoch_ = 0;
  std::array<UniqueFd, 2> sentinels_;
  std::array<UniqueFd, 2> sentinels_write_;
  UniqueFd lifeline_;
  UniqueFd lifeline_read_;
  zmq::context_t context_{1};
  zmq::socket_t router_{context_, zmq::socket_type::router};
  pid_t pid_ = -1;
  std::uint64_t incarnation_ = 0;
};

}  // namespace facet
