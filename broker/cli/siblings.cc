#include "broker/cli/siblings.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/unique_fd.h"

namespace facet {
namespace {

constexpr std::size_t kMaxOutput = 16 << 20;

std::vector<char*> argument_pointers(const std::string& path,
                                     const std::vector<std::string>& arguments) {
  std::vector<char*> pointers{const_cast<char*>(path.c_str())};
  for (const std::string& one : arguments) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::string read_all(int fd) {
  std::string out;
  char buffer[65536];
  while (out.size() < kMaxOutput) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    out.append(buffer, static_cast<std::size_t>(got));
  }
  return out;
}

}  // namespace

std::string own_folder() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return ".";
  const std::string_view whole(path, static_cast<std::size_t>(length));
  return std::string(whole.substr(0, whole.rfind('/')));
}

Result<std::string> find_sibling(const std::string& name) {
  std::string path = own_folder() + "/" + name;
  if (::access(path.c_str(), X_OK) != 0) return errno_error(path, errno);
  return path;
}

Error exec_program(const std::string& path, const std::vector<std::string>& arguments) {
  ::execv(path.c_str(), argument_pointers(path, arguments).data());
  return errno_error(path, errno);
}

Result<ProgramOutput> run_program(const std::string& path,
                                  const std::vector<std::string>& arguments) {
  const auto pointers = argument_pointers(path, arguments);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe", errno);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("fork", errno);
  if (child == 0) {
    ::dup2(write_end.get(), STDOUT_FILENO);
    ::execv(path.c_str(), pointers.data());
    ::_exit(127);
  }
  write_end.reset();
  ProgramOutput output;
  output.out = read_all(read_end.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return output;
}

}  // namespace facet
