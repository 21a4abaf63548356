#include "broker/cli/siblings.h"

#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace facet {
namespace {

std::vector<char*> argument_pointers(const std::string& path,
                                     const std::vector<std::string>& arguments) {
  std::vector<char*> pointers{const_cast<char*>(path.c_str())};
  for (const std::string& one : arguments) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  return pointers;
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

Result<int> run_program(const std::string& path, const std::vector<std::string>& arguments) {
  const auto pointers = argument_pointers(path, arguments);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("fork", errno);
  if (child == 0) {
    ::execv(path.c_str(), pointers.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace facet
