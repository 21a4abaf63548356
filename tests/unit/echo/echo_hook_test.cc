#include "worker/echo/echo_hook.h"

#include <gtest/gtest.h>

#include <string>

namespace facet {
namespace {

TEST(EchoHook, ReadsKindPositionAndAttempts) {
  const auto hook = parse_echo_hook("look \x01" "crash:segv@3 there");
  ASSERT_TRUE(hook.has_value());
  EXPECT_EQ(hook->kind, EchoHookKind::kSegv);
  EXPECT_EQ(hook->position, 3u);
  EXPECT_EQ(hook->attempts, UINT32_MAX);
  const auto limited = parse_echo_hook("\x01" "crash:preempt@12x2");
  ASSERT_TRUE(limited.has_value());
  EXPECT_EQ(limited->kind, EchoHookKind::kPreempt);
  EXPECT_EQ(limited->position, 12u);
  EXPECT_EQ(limited->attempts, 2u);
}

TEST(EchoHook, MalformedIsNone) {
  for (const char* text : {"", "crash:segv@3", "\x01" "crash:", "\x01" "crash:segv",
                           "\x01" "crash:segv@",
                           "\x01" "crash:segv@-1", "\x01" "crash:segv@99999999999",
                           "\x01" "crash:melt@1", "\x01" "crash:segv@1x"}) {
    EXPECT_FALSE(parse_echo_hook(text).has_value()) << text;
  }
}

TEST(EchoHookDeathTest, EndsTheProcessAsNamed) {
  EXPECT_EXIT(act_on_process(EchoHookKind::kAbort), testing::KilledBySignal(SIGABRT), "");
  EXPECT_EXIT(act_on_process(EchoHookKind::kKill), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(act_on_process(EchoHookKind::kExit), testing::ExitedWithCode(1), "");
  EXPECT_EXIT(act_on_process(EchoHookKind::kSegv), testing::KilledBySignal(SIGSEGV), "");
}

TEST(EchoHook, IsSpelledByAnImagesFirstPixelsOnly) {
  const auto found = [](std::string text, std::uint32_t width) {
    text.resize(std::size_t{3} * width, '.');
    return find_echo_hook(ImageView{
        .pixels = reinterpret_cast<const std::uint8_t*>(text.data()), .width = width, .height = 1});
  };
  const auto hook = found("\x01" "crash:segv@7x2", 40);
  ASSERT_TRUE(hook.has_value());
  EXPECT_EQ(hook->kind, EchoHookKind::kSegv);
  EXPECT_EQ(hook->position, 7u);
  EXPECT_EQ(hook->attempts, 2u);
  EXPECT_FALSE(found(".\x01" "crash:segv@7", 40).has_value());
  EXPECT_FALSE(found("\x01" "crash:segv@7", 1).has_value());
}

}  // namespace
}  // namespace facet
