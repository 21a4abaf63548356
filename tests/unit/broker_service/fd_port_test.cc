// FdPort behind a real socket: what hostile peers send with their datagrams, and that no descriptor
// stays open.
#include "broker/service/fd_port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "broker/service/service_limits.h"
#include "common/protocol/codec.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

std::size_t count_open() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

UniqueFd memfd(const std::string& bytes, int seals = F_SEAL_SHRINK) {
  UniqueFd fd(memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_TRUE(seals == 0 || fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

void send_fds(int socket, const std::string& bytes, const std::vector<int>& fds) {
  iovec data{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(64 * sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = ancillary;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  }
  ASSERT_EQ(sendmsg(socket, &header, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

// The core of these tests: keeps what it is told, and stores all images or refuses all.
class FdPortTest : public testing::Test {
 protected:
  FdPortTest() {
    char folder[] = "/tmp/facet-fds-XXXXXX";
    EXPECT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    address_.sun_family = AF_UNIX;
    std::strncpy(address_.sun_path, (folder_ + "/s").c_str(), sizeof address_.sun_path - 1);
    listener_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    open_port({4, 3});
    opened_ = count_open();
  }
  ~FdPortTest() override { std::filesystem::remove_all(folder_); }

  void open_port(const FdPort::Limits& limits) {
    port_.emplace(listener_.get(), limits, [this](Event event) { on(std::move(event)); });
  }
  UniqueFd connect_peer() {
    UniqueFd peer(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(connect(peer.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_), 0);
    return peer;
  }
  void on(Event event) {
    if (const auto* gone = std::get_if<ClientGone>(&event)) return gone_.push_back(gone->client);
    const auto& put = std::get<ClientPut>(event);
    EXPECT_TRUE(put.wants_answer);
    most_open_ = std::max(most_open_, count_open() - opened_);
    bytes_ += put.bytes;
    users_.push_back(put.user);
    const bool is_last = put.chunk.offset + put.bytes.size() == put.chunk.total_bytes;
    if (put.malformed) {
      answer(put.client, Refused{put.chunk.id, put.malformed->code, put.malformed->message, 0});
    } else if (is_last) {
      answer(put.client, Stored{put.chunk.id, put.chunk.image});
    }
  }
  void answer(ClientToken client, ClientNotice notice) {
    std::deque<Event> events;
    port_->send({client, std::move(notice)}, events);
    for (const Event& event : events) gone_.push_back(std::get<ClientGone>(event).client);
  }
  // Lets the port work until nothing is left.
  void turn(Nanos now = kSecond) {
    while (true) {
      if (port_->receive(now)) continue;
      pollfd item{port_->poll_fd(), POLLIN, 0};
      if (poll(&item, 1, 0) == 0) return;
    }
  }
  std::optional<PutFdAnswer> heard(int peer) {
    char bytes[kMaxFdDatagramBytes];
    const ssize_t size = recv(peer, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size <= 0) return std::nullopt;
    const auto answer = decode_put_fd_answer({bytes, static_cast<std::size_t>(size)});
    return answer ? std::optional(*answer) : std::nullopt;
  }
  // What a peer is told of this datagram.
  Refused refusal(const std::string& map, const std::vector<int>& fds) {
    const UniqueFd peer = connect_peer();
    send_fds(peer.get(), map, fds);
    turn();
    const auto answer = heard(peer.get());
    EXPECT_TRUE(answer && std::holds_alternative<Refused>(*answer));
    return answer && std::holds_alternative<Refused>(*answer) ? std::get<Refused>(*answer)
                                                              : Refused{};
  }
  static PutFd put(std::uint64_t bytes, std::uint8_t number = 1) {
    PutFd message;
    message.id.bytes[0] = number;
    message.total_bytes = bytes;
    return message;
  }
  std::string folder_;
  sockaddr_un address_{};
  UniqueFd listener_;
  std::size_t opened_ = 0;
  std::size_t most_open_ = 0;
  std::string bytes_;
  std::vector<UserId> users_;
  std::vector<ClientToken> gone_;
  std::optional<FdPort> port_;
};

TEST_F(FdPortTest, ImagesArriveWholeInPiecesAndOneIsOpenAtATime) {
  std::string image(3 * kFdPieceBytes + 17, '\0');
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<char>(i * i >> 7);
  const UniqueFd peer = connect_peer();
  for (std::uint8_t i = 1; i <= 3; ++i) {
    send_fds(peer.get(), encode_message(put(image.size(), i)), {memfd(image).get()});
  }
  turn();
  EXPECT_EQ(bytes_, image + image + image);
  EXPECT_LE(most_open_, 3u);  // the folder that is being read, the peer's end, the image
  EXPECT_EQ(users_.front(), getuid());
  for (std::uint8_t i = 1; i <= 3; ++i) {
    const auto answer = heard(peer.get());
    ASSERT_TRUE(answer && std::holds_alternative<Stored>(*answer));
    EXPECT_EQ(std::get<Stored>(*answer).id.bytes[0], i);
  }
  turn();
  EXPECT_EQ(count_open(), opened_ + 1 + port_->num_connections());
}

TEST_F(FdPortTest, ATurnCopiesABoundedPart) {
  const std::string image(kFdBytesPerTurn + kFdPieceBytes, 'x');
  const UniqueFd peer = connect_peer();
  send_fds(peer.get(), encode_message(put(image.size())), {memfd(image).get()});
  ASSERT_TRUE(port_->receive(kSecond));
  EXPECT_EQ(bytes_.size(), kFdBytesPerTurn);
  ASSERT_FALSE(port_->receive(kSecond));
  EXPECT_EQ(bytes_.size(), image.size());
}

TEST_F(FdPortTest, WhoWantsItIsToldThatALongCopyHasBegun) {
  const UniqueFd peer = connect_peer();
  const auto hand_over = [&](std::size_t bytes, bool wants_taken = true) {
    PutFd message = put(bytes);
    message.wants_taken = wants_taken;
    send_fds(peer.get(), encode_message(message), {memfd(std::string(bytes, 'x')).get()});
    EXPECT_TRUE(port_->receive(kSecond));
    const bool has_taken = port_->has_taken();
    turn();
    EXPECT_FALSE(port_->has_taken());
    auto answer = heard(peer.get());
    if (has_taken) {
      EXPECT_TRUE(answer && std::holds_alternative<Taken>(*answer));
      answer = heard(peer.get());
    }
    EXPECT_TRUE(answer && std::holds_alternative<Stored>(*answer));
    return has_taken;
  };
  constexpr std::size_t kLong = kFdBytesPerTurn + kFdPieceBytes;
  EXPECT_TRUE(hand_over(kLong));
  EXPECT_FALSE(hand_over(kLong)) << "the clients' socket has its turn first";
  port_->allow_taken();
  EXPECT_FALSE(hand_over(kLong, false));
  EXPECT_FALSE(hand_over(kMaxTakenBytes + 1));
  EXPECT_TRUE(hand_over(kMaxTakenBytes));
}

TEST_F(FdPortTest, ConnectionsTakeTurns) {
  const UniqueFd first = connect_peer(), second = connect_peer();
  const UniqueFd image = memfd(std::string(kFdBytesPerTurn, 'x'));
  for (std::uint8_t i = 1; i <= 4; ++i) {
    send_fds(first.get(), encode_message(put(kFdBytesPerTurn, i)), {image.get()});
  }
  send_fds(second.get(), encode_message(put(kFdBytesPerTurn, 9)), {image.get()});
  for (int i = 0; i < 2; ++i) port_->receive(kSecond);
  EXPECT_TRUE(heard(second.get()).has_value());
}

TEST_F(FdPortTest, ATurnReadsABoundedNumberOfDatagrams) {
  const UniqueFd peer = connect_peer();
  for (int i = 0; i < 2 * kClientBurst; ++i) send_fds(peer.get(), "\xc1", {});
  EXPECT_TRUE(port_->receive(kSecond));
  EXPECT_LE(port_->counters().received, static_cast<std::uint64_t>(kClientBurst));
  turn();
  EXPECT_EQ(port_->counters().received, static_cast<std::uint64_t>(2 * kClientBurst));
}

TEST_F(FdPortTest, WhatIsNoSealedMemfdOfThatSizeIsRefusedByName) {
  const std::string map = encode_message(put(5));
  const UniqueFd good = memfd("12345");
  const UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_NE(refusal(map, {file.get()}).message.find("not a memfd"), std::string::npos);
  EXPECT_NE(refusal(map, {listener_.get()}).message.find("not a memfd"), std::string::npos);
  EXPECT_NE(refusal(map, {memfd("12345", 0).get()}).message.find("F_SEAL_SHRINK"),
            std::string::npos);
  EXPECT_NE(refusal(map, {memfd("12345", F_SEAL_GROW).get()}).message.find("F_SEAL_SHRINK"),
            std::string::npos);
  EXPECT_NE(refusal(map, {memfd("").get()}).message.find("0 bytes; `total` is 5"),
            std::string::npos);
  EXPECT_NE(refusal(map, {memfd("1234").get()}).message.find("4 bytes"), std::string::npos);
  const std::string path = "/proc/self/fd/" + std::to_string(good.get());
  const UniqueFd write_only(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const Refused unreadable = refusal(map, {write_only.get()});
  EXPECT_EQ(unreadable.code, Code::kInvalidArgument);
  EXPECT_NE(unreadable.message.find("not open for reading"), std::string::npos);
  const UniqueFd path_only(open(path.c_str(), O_PATH | O_CLOEXEC));
  EXPECT_NE(refusal(map, {path_only.get()}).message.find("not a memfd"), std::string::npos);
  EXPECT_TRUE(bytes_.empty());
}

TEST_F(FdPortTest, AnyOtherNumberOfDescriptorsIsRefusedAndAllAreClosed) {
  const UniqueFd image = memfd("12345");
  const std::string map = encode_message(put(5));
  for (const std::size_t count : {0u, 2u, 3u, 4u, 5u, 60u}) {
    const Refused refused = refusal(map, std::vector<int>(count, image.get()));
    EXPECT_EQ(refused.code, Code::kInvalidArgument);
    EXPECT_EQ(refused.id.bytes[0], 1);
    EXPECT_NE(refused.message.find("one is wanted"), std::string::npos) << refused.message;
  }
  EXPECT_EQ(count_open(), opened_ + 1 + port_->num_connections());
}

TEST_F(FdPortTest, GarbageIsAnsweredAndItsDescriptorsAreClosed) {
  const UniqueFd image = memfd("12345");
  EXPECT_TRUE(refusal("\xc1", {image.get()}).id.is_zero());
  EXPECT_NE(refusal(std::string(kMaxFdDatagramBytes + 1, 'x'), {image.get()}).message.find("2048"),
            std::string::npos);
  EXPECT_NE(refusal(encode_message(put(0)), {image.get()}).message.find("total"),
            std::string::npos);
  EXPECT_NE(refusal(encode_message(StatusQuery{}), {image.get()}).message.find("type"),
            std::string::npos);
  const UniqueFd peer = connect_peer();
  send_fds(peer.get(), "", {image.get()});  // looks like an end, and is taken for one
  turn();
  EXPECT_FALSE(heard(peer.get()).has_value());
  EXPECT_EQ(count_open(), opened_ + 2 + port_->num_connections());
}

TEST_F(FdPortTest, AMemfdThatIsAllHolesIsZeros) {
  UniqueFd image(memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(image.get(), 1 << 20), 0);
  ASSERT_EQ(fcntl(image.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  const UniqueFd peer = connect_peer();
  send_fds(peer.get(), encode_message(put(1 << 20)), {image.get()});
  turn();
  EXPECT_EQ(bytes_, std::string(1 << 20, '\0'));
  EXPECT_TRUE(heard(peer.get()).has_value());
}

// What its maker alone writes, by a mapping made before the seals.
struct OwnMemfd {
  explicit OwnMemfd(std::size_t size, bool is_there = true) {
    fd.reset(memfd_create("own-image", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(is_there ? posix_fallocate(fd.get(), 0, static_cast<off_t>(size))
                       : ftruncate(fd.get(), static_cast<off_t>(size)),
              0);
    void* const at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    memory = {static_cast<char*>(at), size};
    EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), 0);
  }
  ~OwnMemfd() { munmap(memory.data(), memory.size()); }
  UniqueFd fd;
  std::span<char> memory;
};

int count_mapped() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("own-image") != std::string::npos ? 1 : 0;
  return count;
}

TEST_F(FdPortTest, AMemfdThatOnlyItsMakerWritesIsReadWhereItLies) {
  constexpr std::size_t kSize = (2 << 20) + 4096;
  const OwnMemfd image(kSize);
  EXPECT_NE(map_image(image.fd.get()), nullptr);
  UniqueFd peer = connect_peer();
  for (const char fill : {'a', 'b'}) {
    std::fill(image.memory.begin(), image.memory.end(), fill);
    bytes_.clear();
    send_fds(peer.get(), encode_message(put(kSize - 1)), {image.fd.get()});
    turn();
    EXPECT_EQ(bytes_, std::string(kSize - 1, fill));
    EXPECT_TRUE(heard(peer.get()).has_value());
    EXPECT_EQ(count_mapped(), 2) << "the maker's and one that is kept";
  }
  std::vector<std::unique_ptr<OwnMemfd>> more;
  for (std::size_t i = 0; i < 2 * kMaxFdMappings; ++i) {
    more.push_back(std::make_unique<OwnMemfd>(4096));
    send_fds(peer.get(), encode_message(put(5)), {more.back()->fd.get()});
    turn();
  }
  EXPECT_EQ(count_mapped(), static_cast<int>(1 + more.size() + kMaxFdMappings));
  peer.reset();
  turn();
  EXPECT_EQ(count_mapped(), static_cast<int>(1 + more.size()));
}

TEST_F(FdPortTest, OneThatMayHaveHolesIsNotMapped) {
  const OwnMemfd image(1 << 20, false);
  image.memory[5] = 'x';  // one page is there
  EXPECT_EQ(map_image(image.fd.get()), nullptr);
  EXPECT_EQ(map_image(memfd("12345").get()), nullptr) << "anyone may write it, and punch holes";
  const OwnMemfd whole(1 << 20);
  EXPECT_NE(fallocate(whole.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  EXPECT_NE(madvise(whole.memory.data(), 4096, MADV_REMOVE), 0);
  const UniqueFd peer = connect_peer();
  send_fds(peer.get(), encode_message(put(1 << 20)), {image.fd.get()});
  turn();
  std::string wanted(1 << 20, '\0');
  wanted[5] = 'x';
  EXPECT_EQ(bytes_, wanted);
}

TEST_F(FdPortTest, WhoReadsNoAnswersIsCutOff) {
  const UniqueFd peer = connect_peer();
  const UniqueFd image = memfd("12345");
  const std::string map = encode_message(put(5));
  int sent = 0;
  while (gone_.empty() && sent < 100'000) {
    send_fds(peer.get(), map, {image.get()});
    ++sent;
    turn();
  }
  EXPECT_EQ(gone_.size(), 1u) << sent;
  EXPECT_EQ(port_->num_connections(), 0u);
  EXPECT_EQ(count_open(), opened_ + 2);
}

TEST_F(FdPortTest, AFullHouseRefusesUnlessOneIsIdle) {
  std::vector<UniqueFd> peers;
  for (int i = 0; i < 4; ++i) peers.push_back(connect_peer());
  turn();
  EXPECT_EQ(port_->num_connections(), 3u);  // of one user
  const auto answer = heard(peers[3].get());
  ASSERT_TRUE(answer && std::holds_alternative<Refused>(*answer));
  EXPECT_EQ(std::get<Refused>(*answer).code, Code::kExhausted);
  EXPECT_TRUE(std::get<Refused>(*answer).id.is_zero());
  EXPECT_EQ(port_->counters().refused_full, 1u);
  send_fds(peers[0].get(), encode_message(put(5)), {memfd("12345").get()});
  turn(2 * kSecond);
  peers.push_back(connect_peer());
  turn(kSecond + kClientStaleAfter);  // peers 1 and 2 have been silent for so long
  EXPECT_EQ(gone_.size(), 1u);
  EXPECT_EQ(port_->num_connections(), 3u);
  EXPECT_TRUE(heard(peers[0].get()).has_value());
  send_fds(peers[4].get(), encode_message(put(5)), {memfd("12345").get()});
  turn(kSecond + kClientStaleAfter);
  EXPECT_TRUE(heard(peers[4].get()).has_value());
}

TEST_F(FdPortTest, WhatLiesBehindTheImageIsNotRead) {
  const UniqueFd peer = connect_peer();
  send_fds(peer.get(), encode_message(put(5)), {memfd("12345678").get()});
  turn();
  EXPECT_EQ(bytes_, "12345");
}

TEST_F(FdPortTest, APeerThatLeavesTakesItsImagesAlong) {
  UniqueFd peer = connect_peer();
  const std::string image(2 * kFdBytesPerTurn, 'x');
  send_fds(peer.get(), encode_message(put(image.size())), {memfd(image).get()});
  send_fds(peer.get(), encode_message(put(5, 2)), {memfd("12345").get()});
  ASSERT_TRUE(port_->receive(kSecond));
  peer.reset();
  turn();
  EXPECT_EQ(bytes_.size(), kFdBytesPerTurn);
  EXPECT_EQ(gone_.size(), 1u);
  EXPECT_EQ(port_->num_connections(), 0u);
  EXPECT_EQ(count_open(), opened_);
}

TEST(FdPortWithoutListener, IsQuiet) {
  FdPort port(-1, {4, 4}, [](Event) { FAIL(); });
  EXPECT_EQ(port.poll_fd(), -1);
  EXPECT_FALSE(port.receive(kSecond));
}

}  // namespace
}  // namespace facet
