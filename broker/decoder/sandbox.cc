#include "broker/decoder/sandbox.h"

#include <cerrno>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "common/base/unique_fd.h"

namespace facet {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kHasSanitizer = true;  // its shadow memory needs terabytes of address space
#else
constexpr bool kHasSanitizer = false;
#endif

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// `compare` narrows the rule to calls with such an argument.
Status allow(const Filter& filter, int call, std::initializer_list<scmp_arg_cmp> compare = {}) {
  const int rc = seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call,
                                        static_cast<unsigned>(compare.size()), compare.begin());
  if (rc < 0) return errno_error("seccomp rule", -rc);
  return {};
}

scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

Status add_rules(const Filter& filter, int result_fd) {
  for (const int call : {SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(brk), SCMP_SYS(munmap),
                         SCMP_SYS(rt_sigreturn),
                         SCMP_SYS(clock_gettime), SCMP_SYS(futex), SCMP_SYS(restart_syscall)}) {
    FACET_TRY_STATUS(allow(filter, call));
  }
  const scmp_arg_cmp to_result{0, SCMP_CMP_EQ, static_cast<std::uint64_t>(result_fd), 0};
  FACET_TRY_STATUS(allow(filter, SCMP_SYS(write), {to_result}));
  // A shared mapping could be grown over its neighbours in the ring. realloc() copies instead.
  const int rc = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOMEM), SCMP_SYS(mremap), 0);
  if (rc < 0) return errno_error("seccomp rule", -rc);
  for (const int advice : {MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
                           MADV_DONTDUMP}) {
    const scmp_arg_cmp is_advice{2, SCMP_CMP_EQ, static_cast<std::uint64_t>(advice), 0};
    FACET_TRY_STATUS(allow(filter, SCMP_SYS(madvise), {is_advice}));
  }
  // Memory, but never executable memory.
  FACET_TRY_STATUS(allow(filter, SCMP_SYS(mmap), {masked(2, PROT_EXEC, 0)}));
  FACET_TRY_STATUS(allow(filter, SCMP_SYS(mprotect), {masked(2, PROT_EXEC, 0)}));
  if (kHasSanitizer) {
    for (const int call : {SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(sigaltstack),
                           SCMP_SYS(rt_sigprocmask), SCMP_SYS(sched_yield)}) {
      FACET_TRY_STATUS(allow(filter, call));
    }
  }
  return {};
}

Status set_limit(int resource, const char* name, std::uint64_t soft, std::uint64_t hard) {
  const rlimit limit{soft, hard};
  // Not every libc takes an int here.
  if (setrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) {
    return errno_error(name, errno);
  }
  return {};
}

}  // namespace

Result<std::vector<sock_filter>> build_sandbox_filter(int result_fd) {
  const Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release);
  if (!filter) return Error(Code::kInternal, "seccomp_init failed");
  FACET_TRY_STATUS(add_rules(filter, result_fd));
  const UniqueFd file(memfd_create("sandbox", MFD_CLOEXEC));
  if (!file) return errno_error("memfd_create", errno);
  if (const int rc = seccomp_export_bpf(filter.get(), file.get()); rc < 0) {
    return errno_error("seccomp_export_bpf", -rc);
  }
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return errno_error("fstat", errno);
  std::vector<sock_filter> program(static_cast<std::size_t>(status.st_size) / sizeof(sock_filter));
  const std::size_t bytes = program.size() * sizeof(sock_filter);
  if (pread(file.get(), program.data(), bytes, 0) != static_cast<ssize_t>(bytes)) {
    return errno_error("reading the seccomp program", errno);
  }
  return program;
}

Status enter_sandbox(const std::vector<sock_filter>& filter, const SandboxLimits& limits) {
  FACET_TRY_STATUS(set_limit(RLIMIT_CORE, "RLIMIT_CORE", 0, 0));
  FACET_TRY_STATUS(set_limit(RLIMIT_FSIZE, "RLIMIT_FSIZE", 0, 0));
  FACET_TRY_STATUS(set_limit(RLIMIT_NOFILE, "RLIMIT_NOFILE", 0, 0));
  FACET_TRY_STATUS(
      set_limit(RLIMIT_CPU, "RLIMIT_CPU", limits.cpu_seconds, limits.cpu_seconds + 1));
  if (!kHasSanitizer) {
    FACET_TRY_STATUS(set_limit(RLIMIT_AS, "RLIMIT_AS", limits.memory_bytes, limits.memory_bytes));
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("no_new_privs", errno);
  const sock_fprog program{static_cast<unsigned short>(filter.size()),
                           const_cast<sock_filter*>(filter.data())};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    return errno_error("seccomp", errno);
  }
  return {};
}

}  // namespace facet
