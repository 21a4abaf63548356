#include "broker/cli/siblings.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "common/base/unique_fd.h"

namespace facet {
namespace {

std::vector<char*> argument_pointers(const std::string& path,
                                     const std::vector<std::string>& arguments) {
  std::vector<char*> pointers{const_cast<char*>(path.c_str())};
  for (const std::string& one : arguments) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string content_of(int fd) {
  constexpr std::size_t kMost = 1 << 20;
  std::string text(kMost, '\0');
  const ssize_t count = ::pread(fd, text.data(), text.size(), 0);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
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

Result<ProgramOutput> capture_program(const std::string& path,
                                      const std::vector<std::string>& arguments) {
  // Files of memory take whatever comes; nobody needs to read meanwhile.
  const UniqueFd output(::memfd_create("output", MFD_CLOEXEC));
  const UniqueFd errors(::memfd_create("errors", MFD_CLOEXEC));
  if (!output || !errors) return errno_error("memfd_create", errno);
  const auto pointers = argument_pointers(path, arguments);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("fork", errno);
  if (child == 0) {
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(output.get(), STDOUT_FILENO);
    ::dup2(errors.get(), STDERR_FILENO);
    ::execv(path.c_str(), pointers.data());
    ::_exit(127);
  }
  ProgramOutput said;
  said.exit_code = wait_for(child);
  said.output = content_of(output.get());
  said.errors = content_of(errors.get());
  return said;
}

Result<int> run_program(const std::string& path, const std::vector<std::string>& arguments) {
  const auto pointers = argument_pointers(path, arguments);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("fork", errno);
  if (child == 0) {
    ::execv(path.c_str(), pointers.data());
    ::_exit(127);
  }
  return wait_for(child);
}

}  // namespace facet
