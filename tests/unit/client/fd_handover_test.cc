// Images as descriptors: what the broker gets, and that chunks take over whenever that way fails.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "common/base/unique_fd.h"
#include "common/protocol/put_fd.h"
#include "tests/unit/client/fake_broker.h"

namespace facet {
namespace {

constexpr std::size_t kLarge = (1 << 20) + 1;  // does not fit into one chunk

std::string pattern(std::size_t bytes, unsigned factor = 7) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * factor >> 5);
  return text;
}

// The other socket of a FakeBroker; one client.
class FakeFdBroker {
 public:
  explicit FakeFdBroker(const std::string& socket_path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = socket_path + std::string(kFdSocketSuffix);
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
  }

  struct Got {
    PutFd put;
    std::string content;
    int seals = 0;
    ino_t inode = 0;
  };
  std::optional<Got> receive() {
    if (!peer_) peer_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer_) return std::nullopt;
    char map[kMaxFdDatagramBytes];
    iovec data{.iov_base = map, .iov_len = sizeof map};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = ancillary;
    header.msg_controllen = sizeof ancillary;
    const ssize_t size = ::recvmsg(peer_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size <= 0) return std::nullopt;
    int number = -1;
    if (header.msg_controllen > 0) {
      std::memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof number);
    }
    const UniqueFd fd(number);
    auto put = decode_put_fd({map, static_cast<std::size_t>(size)});
    EXPECT_TRUE(put.has_value());
    struct stat info {};
    EXPECT_EQ(::fstat(fd.get(), &info), 0);
    EXPECT_GE(static_cast<std::uint64_t>(info.st_size), put->total_bytes);
    EXPECT_GE(info.st_blocks * 512, info.st_size) << "it has holes";
    Got got{*put, std::string(put->total_bytes, '\0'), ::fcntl(fd.get(), F_GET_SEALS),
            info.st_ino};
    EXPECT_EQ(::pread(fd.get(), got.content.data(), got.content.size(), 0),
              static_cast<ssize_t>(put->total_bytes));
    return got;
  }
  template <class Answer>
  void answer(const Answer& what) {
    const std::string text = encode_message(what);
    EXPECT_EQ(::send(peer_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  void hang_up() { peer_.reset(); }
  bool is_empty() {
    char byte = 0;
    return !peer_ || ::recv(peer_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
  }

 private:
  UniqueFd listener_;
  UniqueFd peer_;
};

struct FdPair : Pair {
  explicit FdPair(ClientOptions options = {}) : Pair(at_once(options)), fds(broker.path()) {}
  static ClientOptions at_once(ClientOptions options) {
    options.chunks_first = 0;
    return options;
  }

  FakeFdBroker::Got next_fd() {
    const Nanos deadline = monotonic_now() + 10 * kSecond;
    while (monotonic_now() < deadline) {
      if (auto got = fds.receive()) return *std::move(got);
      turn();
    }
    ADD_FAILURE() << "no descriptor came";
    throw std::runtime_error("no descriptor");
  }
  // The image in chunks, as far as the request's own message.
  std::string chunks_of(const RequestId& id) {
    std::string bytes;
    while (true) {
      const auto got = next();
      if (got.is<GenerateRequest>()) {
        EXPECT_EQ(got.as<GenerateRequest>().id, id);
        return bytes;
      }
      if (got.as<PutChunk>().id == id) bytes += got.chunk;
    }
  }
  FakeFdBroker fds;
};

TEST(FdHandover, LargeImagesGoAsSealedMemfdsAndTheRequestFollows) {
  const TempDir dir;
  const std::string large = pattern(kLarge), small = pattern(100);
  FdPair pair;
  const RequestId id = *pair.client.submit(
      ask(2), {ImageSource{dir.file("a.png", large), nullptr}, image_bytes(small)});
  const auto first = pair.next_fd();
  EXPECT_EQ(first.put.id, id);
  EXPECT_EQ(first.put.total_bytes, kLarge);
  EXPECT_EQ(first.content, large);
  EXPECT_NE(first.seals & F_SEAL_SHRINK, 0);
  EXPECT_NE(first.seals & F_SEAL_FUTURE_WRITE, 0);
  const auto second = pair.next_fd();
  EXPECT_EQ(second.put.image, 1u);
  EXPECT_EQ(second.content, small);
  pair.fds.answer(Stored{id, 0});
  for (int i = 0; i < 20; ++i) pair.turn();
  EXPECT_FALSE(pair.broker.receive().has_value()) << "before all is stored";
  pair.fds.answer(Stored{id, 1});
  EXPECT_TRUE(pair.next().is<GenerateRequest>());
}

TEST(FdHandover, TheRequestFollowsOnceItsLastImageIsTakenAndTheMemfdStays) {
  FdPair pair;
  const RequestId id =
      *pair.client.submit(ask(2), {image_bytes(pattern(kLarge)), image_bytes(pattern(kLarge, 9))});
  EXPECT_FALSE(pair.next_fd().put.wants_taken);
  const auto last = pair.next_fd();
  EXPECT_TRUE(last.put.wants_taken);
  pair.fds.answer(Taken{id, 0});  // nobody asked
  for (int i = 0; i < 20; ++i) pair.turn();
  EXPECT_FALSE(pair.broker.receive().has_value()) << "before the other one is stored";
  pair.fds.answer(Stored{id, 0});
  pair.fds.answer(Taken{id, 1});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, id);
  const RequestId other = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge, 11))});
  EXPECT_NE(pair.next_fd().inode, last.inode) << "it is being read";
  pair.fds.answer(Stored{id, 1});
  pair.fds.answer(Stored{other, 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, other);
}

TEST(FdHandover, AfterTakenAConnectionThatEndsBringsNewOnesAndTheImageAgain) {
  FdPair pair;
  const std::string image = pattern(3 << 20);
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(image)});
  pair.next_fd();
  pair.fds.answer(Taken{id, 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, id);
  pair.fds.hang_up();
  EXPECT_EQ(pair.chunks_of(id), image);
}

TEST(FdHandover, ARefusalAfterTakenIsTriedAgain) {
  FdPair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.next_fd();
  pair.fds.answer(Taken{id, 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, id);
  pair.fds.answer(Refused{id, Code::kExhausted, "full", 1});
  EXPECT_EQ(pair.next_event<Retrying>().error.message, "full");
  pair.next_fd();
  pair.fds.answer(Stored{id, 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, id);
}

TEST(FdHandover, TheFirstRequestsGoAsChunks) {
  Pair pair;
  FakeFdBroker fds(pair.broker.path());
  for (std::uint32_t i = 0; i <= ClientOptions{}.chunks_first; ++i) {
    const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge, i + 1))});
    const bool is_last = i == ClientOptions{}.chunks_first;
    bool asked = false;
    std::optional<FakeFdBroker::Got> got;
    const Nanos deadline = monotonic_now() + 10 * kSecond;
    while (!asked && !got && monotonic_now() < deadline) {
      pair.turn();
      got = fds.receive();
      if (auto message = pair.broker.receive()) asked = message->is<GenerateRequest>();
    }
    EXPECT_EQ(got.has_value(), is_last) << i;
    EXPECT_TRUE(!got || got->put.id == id);
  }
}

TEST(FdHandover, SmallImagesGoAsChunks) {
  FdPair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(1000))});
  EXPECT_EQ(pair.chunks_of(id), pattern(1000));
}

TEST(FdHandover, ARefusalWithAHintIsTriedAgainAndOneWithoutIsTheEnd) {
  FdPair pair;
  const RequestId id =
      *pair.client.submit(ask(2), {image_bytes(pattern(kLarge)), image_bytes(pattern(kLarge, 9))});
  pair.next_fd();
  pair.next_fd();
  const Refused full{id, Code::kExhausted, "full", 1};
  pair.fds.answer(full);
  pair.fds.answer(full);  // of the same try
  EXPECT_EQ(pair.next_event<Retrying>().error.message, "full");
  EXPECT_EQ(pair.next_fd().put.image, 0u);
  EXPECT_EQ(pair.next_fd().put.image, 1u);
  EXPECT_TRUE(pair.events.empty());
  pair.fds.answer(Stored{id, 0});
  pair.fds.answer(Refused{id, Code::kUnsupported, "image 1 is none", 0});
  EXPECT_EQ(pair.next_event<Failed>().error.message, "image 1 is none");
  EXPECT_EQ(pair.client.num_unfinished(), 0u);
}

TEST(FdHandover, AtMostFourAreUnderWay) {
  FdPair pair;
  std::vector<RequestId> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(*pair.client.submit(ask(1), {image_bytes(pattern(kLarge))}));
  }
  for (int i = 0; i < 4; ++i) EXPECT_EQ(pair.next_fd().put.id, ids[i]);
  for (int i = 0; i < 20; ++i) pair.turn();
  EXPECT_TRUE(pair.fds.is_empty());
  pair.fds.answer(Stored{ids[0], 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, ids[0]);
  EXPECT_EQ(pair.next_fd().put.id, ids[4]);
}

TEST(FdHandover, AMemfdIsWrittenAgainOnceItIsAnswered) {
  FdPair pair;
  std::vector<std::string> images;
  for (const std::size_t bytes : {kLarge + 900, kLarge, kLarge + 5000}) {
    images.push_back(pattern(bytes, static_cast<unsigned>(bytes % 97)));
    const RequestId id = *pair.client.submit(ask(1), {image_bytes(images.back())});
    const auto got = pair.next_fd();
    EXPECT_EQ(got.put.total_bytes, bytes);
    EXPECT_GE(got.content.size(), bytes);
    EXPECT_EQ(got.content.substr(0, bytes), images.back());
    EXPECT_NE(got.seals & F_SEAL_SHRINK, 0);
    pair.fds.answer(Stored{id, 0});
    EXPECT_TRUE(pair.next().is<GenerateRequest>());
  }
}

TEST(FdHandover, AConnectionThatEndsLeavesChunks) {
  FdPair pair;
  const std::string image = pattern(3 << 20);
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(image)});
  pair.next_fd();
  pair.fds.hang_up();
  EXPECT_EQ(pair.chunks_of(id), image);
}

TEST(FdHandover, AConnectionThatIsNotWantedLeavesChunks) {
  FdPair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.next_fd();
  pair.fds.answer(Refused{RequestId{}, Code::kExhausted, "too many", 1000});
  EXPECT_EQ(pair.chunks_of(id), pattern(kLarge));
}

TEST(FdHandover, AnAnswerThatIsNoneLeavesChunks) {
  FdPair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.next_fd();
  pair.fds.answer(Keepalive{1});
  EXPECT_EQ(pair.chunks_of(id), pattern(kLarge));
}

TEST(FdHandover, SilenceBringsANewConnectionAndTheImagesAgain) {
  FdPair pair({.silence = 50 * kMillisecond});
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.next_fd();
  EXPECT_EQ(pair.chunks_of(id), pattern(kLarge));
}

TEST(FdHandover, ACancelledOneIsForgotten) {
  FdPair pair;
  const RequestId id = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.next_fd();
  pair.client.cancel(id);
  EXPECT_EQ(pair.next_event<Done>().reason, FinishReason::kCancelled);
  const RequestId other = *pair.client.submit(ask(1), {image_bytes(pattern(kLarge))});
  pair.fds.answer(Stored{id, 0});
  pair.next_fd();
  pair.fds.answer(Stored{other, 0});
  EXPECT_EQ(pair.next().as<GenerateRequest>().id, other);
}

TEST(FdHandover, AFileThatIsGoneFailsItsRequest) {
  const TempDir dir;
  FdPair pair;
  const std::string path = dir.file("large.png", pattern(kLarge));
  const std::string gone = (dir.path / "gone.png").string();
  ASSERT_TRUE(pair.client.submit(ask(2), {{path, nullptr}, {gone, nullptr}}));
  EXPECT_EQ(pair.next_event<Failed>().error.code, Code::kNotFound);
}

}  // namespace
}  // namespace facet
