// Control and decoder channels over real socket pairs.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "broker/service/control_channel.h"
#include "broker/service/decoder_channel.h"

namespace facet {
namespace {

std::pair<UniqueFd, UniqueFd> make_pair() {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void send_with_fds(int socket, const ControlPacket& packet, const std::vector<int>& fds) {
  iovec data{.iov_base = const_cast<ControlPacket*>(&packet), .iov_len = sizeof packet};
  std::vector<char> ancillary(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = ancillary.data();
  header.msg_controllen = ancillary.size();
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  ASSERT_EQ(sendmsg(socket, &header, 0), static_cast<ssize_t>(sizeof packet));
}

TEST(ControlChannel, ReceivesPacketsAndDescriptorsAndSeesTheEnd) {
  auto [ours, theirs] = make_pair();
  ControlChannel channel(ours.get());
  EXPECT_FALSE((*channel.receive()).has_value());
  const ControlPacket plain{.kind = ControlKind::kWorkerDead, .worker = 3,
                            .incarnation = 1ull << 60, .own_fault = 1, .exit_code = -11};
  ASSERT_EQ(send(theirs.get(), &plain, sizeof plain, 0), static_cast<ssize_t>(sizeof plain));
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  send_with_fds(theirs.get(), {.kind = ControlKind::kDecoderStarted, .pid = 5}, {pipe_ends[1]});
  send_with_fds(theirs.get(), {.kind = ControlKind::kWorkerStarted}, {pipe_ends[0], pipe_ends[1]});

  auto first = channel.receive();
  ASSERT_TRUE(first.has_value() && first->has_value());
  EXPECT_EQ((*first)->packet.worker, 3u);
  EXPECT_EQ((*first)->packet.incarnation, 1ull << 60);
  EXPECT_EQ((*first)->packet.exit_code, -11);
  EXPECT_FALSE((*first)->fds[0]);
  auto second = channel.receive();
  ASSERT_TRUE(second.has_value() && second->has_value());
  ASSERT_TRUE((*second)->fds[0]);
  EXPECT_FALSE((*second)->fds[1]);
  ASSERT_EQ(write((*second)->fds[0].get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(read(pipe_ends[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
  auto third = channel.receive();
  ASSERT_TRUE(third.has_value() && third->has_value());
  ASSERT_TRUE((*third)->fds[0] && (*third)->fds[1]);
  ASSERT_EQ(write((*third)->fds[1].get(), "y", 1), 1);
  EXPECT_EQ(read((*third)->fds[0].get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  close(pipe_ends[0]);
  close(pipe_ends[1]);

  ASSERT_EQ(send(theirs.get(), "short", 5, 0), 5);
  EXPECT_EQ(channel.receive().error().code, Code::kCorrupt);
  theirs.reset();
  EXPECT_EQ(channel.receive().error().code, Code::kClosed);
}

TEST(ControlChannel, KeepsWhatFindsNoRoomInOrder) {
  auto [ours, theirs] = make_pair();
  ControlChannel channel(ours.get());
  std::uint32_t sent = 0;
  while (!channel.has_unsent()) channel.send({.kind = ControlKind::kStatus, .value = sent++});
  channel.send({.kind = ControlKind::kStatus, .value = sent++});
  std::uint32_t received = 0;
  ControlPacket packet;
  while (received < sent) {
    if (recv(theirs.get(), &packet, sizeof packet, MSG_DONTWAIT) == sizeof packet) {
      ASSERT_EQ(packet.value, received++);
    } else {
      channel.flush();
    }
  }
  EXPECT_FALSE(channel.has_unsent());
}

TEST(DecoderChannel, JobsAndRepliesPassAndTheEndClosesIt) {
  auto [ours, theirs] = make_pair();
  DecoderChannel channel;
  channel.send({.job = 1});  // nobody there: forgotten
  EXPECT_FALSE(channel.has_unsent());
  EXPECT_FALSE(channel.receive().has_value());
  channel.open(std::move(ours));
  channel.send({.job = 2, .width = 7});
  DecodeJob job;
  ASSERT_EQ(recv(theirs.get(), &job, sizeof job, 0), static_cast<ssize_t>(sizeof job));
  EXPECT_EQ(job.job, 2u);
  DecodeReply reply{.job = 2, .outcome = DecodeOutcome::kBadImage};
  std::memset(reply.message, 'm', sizeof reply.message);  // not terminated
  ASSERT_EQ(send(theirs.get(), "odd", 3, 0), 3);          // ignored
  ASSERT_EQ(send(theirs.get(), &reply, sizeof reply, 0), static_cast<ssize_t>(sizeof reply));
  const auto received = channel.receive();
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->job, 2u);
  EXPECT_EQ(std::strlen(received->message), sizeof reply.message - 1);
  EXPECT_FALSE(channel.receive().has_value());
  EXPECT_TRUE(channel.is_open());
  theirs.reset();
  EXPECT_FALSE(channel.receive().has_value());
  EXPECT_FALSE(channel.is_open());
  channel.send({.job = 3});
  EXPECT_FALSE(channel.has_unsent());
}

TEST(DecoderChannel, ANewDecoderOwesNothingToTheFormer) {
  auto [ours, theirs] = make_pair();
  DecoderChannel channel;
  channel.open(std::move(ours));
  std::uint64_t jobs = 0;
  while (!channel.has_unsent()) channel.send({.job = ++jobs});
  auto [next_ours, next_theirs] = make_pair();
  channel.open(std::move(next_ours));
  EXPECT_FALSE(channel.has_unsent());
  channel.send({.job = 999});
  DecodeJob job;
  ASSERT_EQ(recv(next_theirs.get(), &job, sizeof job, 0), static_cast<ssize_t>(sizeof job));
  EXPECT_EQ(job.job, 999u);
}

}  // namespace
}  // namespace facet
