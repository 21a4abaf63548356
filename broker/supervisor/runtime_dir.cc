#include "broker/supervisor/runtime_dir.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"

namespace facet {
namespace {

constexpr const char* kLockName = "facetd.lock";
constexpr int kBacklog = 128;

Error refused(Code code, std::string message) { return {code, std::move(message)}; }

Status make_private_folder(const std::string& path) {
  std::error_code error;
  const auto parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  if (mkdir(path.c_str(), 0750) != 0 && errno != EEXIST) return errno_error("mkdir " + path, errno);
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return errno_error(path, errno);
  if (!S_ISDIR(status.st_mode)) return refused(Code::kInvalidArgument, path + " is not a folder");
  if (status.st_uid != geteuid()) {
    return refused(Code::kInvalidArgument,
                   path + " belongs to user " + std::to_string(status.st_uid) + ", not to " +
                       std::to_string(geteuid()));
  }
  if ((status.st_mode & 022) != 0) {
    return refused(Code::kInvalidArgument, path + " can be written to by others: chmod go-w it");
  }
  return {};
}

// Pid that the holder of the lock wrote into it.
// Looks every few milliseconds for at most `most`; true once `is_so`.
template <class Predicate>
bool comes_true(Nanos most, Predicate is_so) {
  const Nanos end = monotonic_now() + most;
  while (!is_so()) {
    if (monotonic_now() >= end) return false;
    const timespec pause{.tv_sec = 0, .tv_nsec = 5'000'000};
    nanosleep(&pause, nullptr);
  }
  return true;
}

// The holder writes its pid just after it has won the lock.
std::string holder_of(int lock) {
  std::string pid;
  comes_true(kSecond, [&] {
    char text[24] = {};
    const ssize_t count = pread(lock, text, sizeof text - 1, 0);
    pid.assign(text, count > 0 ? std::strcspn(text, "\n") : 0);
    return !pid.empty();
  });
  return pid.empty() ? "another process" : "pid " + pid;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return refused(Code::kInvalidArgument,
                   "socket path has " + std::to_string(path.size()) + " bytes, at most " +
                       std::to_string(sizeof address.sun_path - 1) + " are possible: " + path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// Removes a socket file that a dead daemon left behind, and nothing else.
Status clear_stale_socket(const std::string& path, const sockaddr_un& address, int type) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return errno_error(path, errno);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return refused(Code::kInvalidArgument, path + " exists and is not a socket: not touched");
  }
  // The broker of a daemon that was killed may take a moment to follow it.
  const bool is_stale = comes_true(kSecond, [&] {
    const UniqueFd probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
           (errno == ECONNREFUSED || errno == ENOENT);
  });
  if (!is_stale) return refused(Code::kExhausted, "another process listens on " + path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error("unlink " + path, errno);
  return {};
}

// The holder removes the file when it leaves, so a lock may be won on a file that has no name any
// more: then somebody else may hold the one that has.
bool has_name(int lock, const std::string& lock_path) {
  struct stat held {};
  struct stat named {};
  return fstat(lock, &held) == 0 && lstat(lock_path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

Result<UniqueFd> take_lock(const std::string& folder, const std::string& lock_path) {
  while (true) {
    UniqueFd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return errno_error("open " + lock_path, errno);
    if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return errno_error("lock " + lock_path, errno);
      return refused(Code::kExhausted,
                     folder + " is in use by another facetd, " + holder_of(lock.get()));
    }
    if (has_name(lock.get(), lock_path)) return lock;
  }
}

}  // namespace

Result<RuntimeDir> RuntimeDir::claim(const std::string& path) {
  FACET_TRY_STATUS(make_private_folder(path));
  const std::string lock_path = path + "/" + kLockName;
  UniqueFd lock = FACET_TRY(take_lock(path, lock_path));
  const std::string pid = std::to_string(getpid()) + "\n";
  if (ftruncate(lock.get(), 0) != 0 ||
      pwrite(lock.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return errno_error("write " + lock_path, errno);
  }
  return RuntimeDir(path, std::move(lock));
}

Result<UniqueFd> RuntimeDir::listen(const std::string& socket_path, unsigned mode, int type) {
  const sockaddr_un address = FACET_TRY(address_of(socket_path));
  FACET_TRY_STATUS(clear_stale_socket(socket_path, address, type));
  UniqueFd listener(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_error("socket", errno);
  const mode_t others = umask(0777 & ~mode);
  umask(others | (0777 & ~mode));
  const int rc =
      bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(others);
  if (rc != 0) return errno_error("bind " + socket_path, error);
  if (::listen(listener.get(), kBacklog) != 0) return errno_error("listen " + socket_path, errno);
  return listener;
}

Status RuntimeDir::write_file(const std::string& name, const std::string& content) const {
  const std::string target = path_ + "/" + name;
  const std::string fresh = target + ".new";
  const UniqueFd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                           0600));
  if (!file) return errno_error("open " + fresh, errno);
  if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    return errno_error("write " + fresh, errno);
  }
  if (rename(fresh.c_str(), target.c_str()) != 0) return errno_error("rename " + fresh, errno);
  return {};
}

void RuntimeDir::leave(const std::vector<std::string>& files) const {
  for (const std::string& file : files) unlink(file.c_str());
  unlink((path_ + "/" + kLockName).c_str());  // last: the lock is still held
}

}  // namespace facet
