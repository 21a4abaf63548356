#include "broker/cli/daemon_session.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/temp_dir.h"
#include "tests/unix_listener.h"

namespace facet {
namespace {

// The daemon goes away after it was found and before a worker was ready: nobody waits for it.
TEST(DaemonSession, ADaemonThatGoesAwayBeforeAWorkerIsReadyIsGivenUp) {
  const TempDir dir;
  const std::string path = dir.at("facet.sock");
  UniqueFd listener = listen_at(path, 8);
  ClientOptions options;
  options.deserted_after = kMillisecond;
  auto session = DaemonSession::open({path, "", ""}, options);
  ASSERT_TRUE(session) << session.error().message;
  listener.reset();  // as after SIGKILL: the socket's file stays
  const auto facts = session->wait_for_worker();
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().code, Code::kClosed);
  EXPECT_NE(facts.error().message.find("no sign of life from the daemon at " + path),
            std::string::npos)
      << facts.error().message;
}

}  // namespace
}  // namespace facet
