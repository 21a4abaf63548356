#include "broker/supervisor/runtime_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace facet {
namespace {

class RuntimeDirTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/facet-runtime-XXXXXX";
    root_ = mkdtemp(name);
    path_ = root_ + "/run";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string root_;
  std::string path_;
};

TEST_F(RuntimeDirTest, OneOwnerAtATime) {
  {
    const auto first = RuntimeDir::claim(path_);
    ASSERT_TRUE(first) << first.error().message;
    const auto second = RuntimeDir::claim(path_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::kExhausted);
    EXPECT_EQ(second.error().message,
              path_ + " is in use by another facetd, pid " + std::to_string(getpid()));
  }
  EXPECT_TRUE(RuntimeDir::claim(path_));  // a lock file left behind is no lock
}

TEST_F(RuntimeDirTest, LeavingRemovesWhatItMade) {
  const auto folder = RuntimeDir::claim(path_);
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->write_file("a.toml", "x = 1\n"));
  const auto listener = RuntimeDir::listen(path_ + "/a.sock", 0600);
  ASSERT_TRUE(listener);
  folder->leave({path_ + "/a.toml", path_ + "/a.sock"});
  EXPECT_TRUE(std::filesystem::is_empty(path_));
}

TEST_F(RuntimeDirTest, RefusesFoldersThatOthersMayWriteTo) {
  mkdir(path_.c_str(), 0700);
  chmod(path_.c_str(), 0777);
  EXPECT_FALSE(RuntimeDir::claim(path_));
  chmod(path_.c_str(), 0750);
  EXPECT_TRUE(RuntimeDir::claim(path_));
  EXPECT_FALSE(RuntimeDir::claim("/dev/null"));
}

TEST_F(RuntimeDirTest, ReplacesStaleSocketsAndNothingElse) {
  ASSERT_TRUE(RuntimeDir::claim(path_));
  const std::string socket = path_ + "/a.sock";
  {
    const auto live = RuntimeDir::listen(socket, 0600);
    ASSERT_TRUE(live);
    struct stat status {};
    stat(socket.c_str(), &status);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    const auto thief = RuntimeDir::listen(socket, 0600);
    ASSERT_FALSE(thief);
    EXPECT_EQ(thief.error().message, "another process listens on " + socket);
  }
  EXPECT_TRUE(RuntimeDir::listen(socket, 0600));  // its owner is gone
  std::ofstream(path_ + "/file") << "precious";
  EXPECT_FALSE(RuntimeDir::listen(path_ + "/file", 0600));
  EXPECT_EQ(std::filesystem::file_size(path_ + "/file"), 8u);
  const auto too_long = RuntimeDir::listen(path_ + "/" + std::string(120, 'x'), 0600);
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message.find("at most 107"), std::string::npos);
}

// Started together, again and again: one wins each time, whoever leaves in between.
TEST_F(RuntimeDirTest, RacesHaveOneWinner) {
  ASSERT_TRUE(RuntimeDir::claim(path_));
  const std::string token = path_ + "/token";
  for (int round = 0; round < 4; ++round) {
    if (fork() != 0) continue;
    for (int i = 0; i < 300; ++i) {
      const auto folder = RuntimeDir::claim(path_);
      if (!folder) continue;
      const UniqueFd alone(open(token.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      if (!alone) _exit(1);  // somebody else believes to be the owner
      unlink(token.c_str());
      if (i % 2 == 0) folder->leave({});
    }
    _exit(0);
  }
  for (int round = 0; round < 4; ++round) {
    int status = 0;
    wait(&status);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace facet
