// Named places where a test can catch a process, to kill or stop it exactly there. In the programs
// the macro leaves nothing behind; copies of them made for tests are compiled with
// FACET_CRASH_POINTS (tests/crash_points).
#pragma once

#if defined(FACET_CRASH_POINTS)

namespace facet {

// Counts the hit; waits there, spinning, when the test has armed this hit of it. Any thread,
// no allocation and, after the first call in a process, no system call: a sandboxed child may
// call it.
void crash_point(const char* name);

}  // namespace facet
#define FACET_CRASH_POINT(name) ::facet::crash_point(name)

#else

#define FACET_CRASH_POINT(name) static_cast<void>(0)

#endif
