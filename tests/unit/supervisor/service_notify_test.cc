#include "broker/supervisor/service_notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace facet {
namespace {

TEST(ServiceNotify, SpeaksToAbstractAndFileSockets) {
  for (const bool is_abstract : {true, false}) {
    const std::string path = (is_abstract ? "@facet-notify-" : "/tmp/facet-notify-") +
                             std::to_string(getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (is_abstract) address.sun_path[0] = '\0';
    const UniqueFd listener(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size())),
              0);
    setenv("NOTIFY_SOCKET", path.c_str(), 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    ServiceNotify notify;
    EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);  // no child speaks for us
    EXPECT_EQ(notify.watchdog_interval(), 1500 * kMillisecond);
    notify.send("READY=1");
    char text[32] = {};
    EXPECT_EQ(recv(listener.get(), text, sizeof text, MSG_DONTWAIT), 7);
    EXPECT_STREQ(text, "READY=1");
    if (!is_abstract) unlink(path.c_str());
  }
}

TEST(ServiceNotify, IsSilentWithoutSystemd) {
  ServiceNotify notify;
  notify.send("READY=1");
  EXPECT_EQ(notify.watchdog_interval(), 0);
}

}  // namespace
}  // namespace facet
