#include "broker/cli/socket_search.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/temp_dir.h"
#include "tests/unix_listener.h"

namespace facet {
namespace {

class SocketSearch : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"FACET_SOCKET", "FACET_MODEL", "RUNTIME_DIRECTORY"}) unsetenv(name);
    setenv("XDG_RUNTIME_DIR", dir_.path.c_str(), 1);
  }
  TempDir dir_;
};

TEST_F(SocketSearch, WhatIsNamedComesFirst) {
  setenv("FACET_SOCKET", "/from/environment", 1);
  EXPECT_EQ(choose_sockets({"/named", "", ""})->paths, std::vector<std::string>{"/named"});
  const std::string config = dir_.file(
      "f.toml", "[worker]\nengine = \"echo\"\n[broker]\nsocket = \"" + dir_.at("c.sock") + "\"");
  const auto by_config = choose_sockets({"", config, ""});
  ASSERT_TRUE(by_config) << by_config.error().message;
  EXPECT_EQ(by_config->paths, std::vector<std::string>{dir_.at("c.sock")});
  EXPECT_FALSE(by_config->is_named);  // a private one may be started with it
  EXPECT_FALSE(choose_sockets({"", dir_.at("none.toml"), ""}));
  const auto by_environment = choose_sockets({});
  EXPECT_EQ(by_environment->paths, std::vector<std::string>{"/from/environment"});
  EXPECT_TRUE(by_environment->is_named);
}

TEST_F(SocketSearch, TheDefaultPlacesAreTriedInOrder) {
  const auto choice = choose_sockets({});
  EXPECT_FALSE(choice->is_named);
  const std::string session = dir_.at("facet/facet.sock");
  EXPECT_EQ(std::count(choice->paths.begin(), choice->paths.end(), session), 1);
  EXPECT_EQ(std::count(choice->paths.begin(), choice->paths.end(), "/run/facet/facet.sock"), 1);
}

TEST_F(SocketSearch, FindsWhoListensAndNamesWhatItTried) {
  const std::string dead = dir_.at("dead.sock"), alive = dir_.at("alive.sock");
  const UniqueFd fd = listen_at(alive, 8);
  EXPECT_EQ(*find_daemon({{dead, alive}, false}), alive);
  const auto none = find_daemon({{dead, dir_.at("x.sock")}, false});
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("dead.sock"), std::string::npos);
  EXPECT_NE(none.error().message.find("x.sock"), std::string::npos);
}

TEST_F(SocketSearch, TheModelOfTheEnvironment) {
  setenv("FACET_MODEL", "/some/model", 1);
  EXPECT_EQ(*default_model(), "/some/model");
}

}  // namespace
}  // namespace facet
