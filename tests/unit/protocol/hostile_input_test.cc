// Bytes from a stranger: no crash, no allocation beyond the frame's worth, a bounded error.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

#include "common/protocol/limits.h"
#include "tests/sanitizers/excused.h"
#include "tests/unit/protocol/samples.h"

namespace {

// Heap in use, and its highest point since the last reset.
std::atomic<std::ptrdiff_t> live_bytes{0};
std::atomic<std::ptrdiff_t> peak_bytes{0};

void* note_allocation(void* made) {
  if (made != nullptr) live_bytes += static_cast<std::ptrdiff_t>(malloc_usable_size(made));
  if (live_bytes > peak_bytes) peak_bytes = live_bytes.load();
  return made;
}

void note_release(void* made) {
  if (made != nullptr) live_bytes -= static_cast<std::ptrdiff_t>(malloc_usable_size(made));
}

}  // namespace

// A sanitizer owns malloc; there only what C++ allocates is counted.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
void* operator new(std::size_t size) {
  void* made = note_allocation(std::malloc(size == 0 ? 1 : size));
  if (made == nullptr) throw std::bad_alloc();
  return made;
}
void operator delete(void* made) noexcept {
  note_release(made);
  std::free(made);
}
void operator delete(void* made, std::size_t) noexcept {
  operator delete(made);
}
#else
extern "C" {
void* __libc_malloc(std::size_t size);
void __libc_free(void* made);
void* malloc(std::size_t size) {
  return note_allocation(__libc_malloc(size));
}
void free(void* made) {
  note_release(made);
  __libc_free(made);
}
}
#endif

namespace facet {
namespace {

// Feeds all decoders; returns the highest memory any of them took.
std::ptrdiff_t decode_everywhere(std::string_view bytes) {
  const std::ptrdiff_t before = live_bytes;
  peak_bytes = before;
  const auto check = [](const auto& decoded) {
    EXPECT_TRUE(decoded || decoded.error().message.size() <= kMaxErrorBytes);
  };
  check(decode_client_message(bytes));
  check(decode_client_message(bytes, "chunk"));
  check(decode_broker_message(bytes));
  check(decode_worker_command(bytes));
  check(decode_worker_message(bytes));
  check(decode_request_body(bytes));
  static_cast<void>(find_request_id(bytes));
  return peak_bytes - before;
}

std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string out;
  while (out.size() + unit.size() <= bytes) out += unit;
  return out;
}

TEST(Hostile, DepthBombs) {
  is_excused("hostile_input_test.malloc");  // the others' bounds are as they are here
  for (const std::string_view unit :
       {std::string_view("\x91", 1), std::string_view("\x81\xa1k", 3),
        std::string_view("\xdc\x00\x01", 3), std::string_view("\xdd\x00\x00\x00\x01", 5),
        std::string_view("\xdc\xff\xff", 3), std::string_view("\xde\x00\x40", 3)}) {
    EXPECT_LT(decode_everywhere(repeated(unit, kMaxMapBytes)), 1 << 16);
  }
}

TEST(Hostile, HugeHeaders) {
  for (const std::string_view header :
       {std::string_view("\xdd\xff\xff\xff\xff", 5), std::string_view("\xdf\xff\xff\xff\xff", 5),
        std::string_view("\xdb\xff\xff\xff\xff", 5), std::string_view("\xc6\xff\xff\xff\xff", 5),
        std::string_view("\xc9\xff\xff\xff\xff\x01", 6),
        std::string_view("\xdd\x00\x02\x00\x00", 5), std::string_view("\xdf\x7f\xff\xff\xff", 5),
        std::string_view("\xdd\x80\x00\x00\x00", 5)}) {
    EXPECT_LT(decode_everywhere(header), 1 << 16);
    EXPECT_LT(decode_everywhere("\x81\xa2ids" + std::string(header)), 1 << 16);
  }
}

TEST(Hostile, ManySmallValuesAreCounted) {
  // Arrays of 2^17 nils, one after the other: one byte each on the wire, 24 when parsed.
  std::string bytes("\xdc\x00\x1e", 3);
  for (int i = 0; i < 30; ++i) {
    bytes += std::string("\xdd\x00\x02\x00\x00", 5) + std::string(1 << 17, '\xc0');
  }
  const auto refused = decode_client_message(bytes);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("more than 262144 values"), std::string::npos)
      << refused.error().message;
  EXPECT_LT(decode_everywhere(bytes), 32 << 20);
  EXPECT_LT(decode_everywhere("\x81\xa1k" + bytes.substr(0, 600000)), 32 << 20);
}

TEST(Hostile, FramesBeyondTheLimit) {
  const std::string big(kMaxMapBytes + 1, '\x90');
  const auto refused = decode_client_message(big);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_NE(refused.error().message.find("4194305 bytes exceed the limit of 4194304"),
            std::string::npos);
  EXPECT_LT(decode_everywhere(std::string(kMaxWorkerMapBytes + 1, '\x90')), 1 << 16);
}

TEST(Hostile, LongNamesInErrorsAreCut) {
  const std::string name(1 << 20, '\xff');
  const auto refused = decode_client_message(samples::raw_generate(
      0, samples::hello_text, [&](samples::Packer& pack) { pack.pack_map(1).pack(name).pack(1); }));
  ASSERT_FALSE(refused);
  EXPECT_LT(refused.error().message.size(), 400u);
  for (const char c : refused.error().message) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
}

std::vector<std::string> all_samples() {
  return {encode_message(samples::generate()),
          encode_message(PutChunk{samples::id(), 1, 100, 0}),
          encode_message(CancelRequest{samples::id()}),
          encode_message(StatusQuery{}),
          encode_message(Accepted{samples::id(), 1, 2}),
          encode_message(Refused{samples::id(), Code::kClosed, "bye", 5}),
          encode_message(Tokens{samples::id(), 3, {1, 2, 3}, "abc"}),
          encode_message(samples::done()),
          encode_message(Keepalive{}),
          encode_message(StatusReply{"{}"}),
          encode_message(samples::dispatch()),
          encode_message(CancelSequence{samples::id(), 1}),
          encode_message(Drain{}),
          encode_message(samples::hello()),
          encode_message(samples::step()),
          encode_request_body(samples::generate())};
}

TEST(Hostile, TruncatedAtEveryByte) {
  for (const std::string& whole : all_samples()) {
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
      // A copy of exactly this size, so that a read past the end is seen by the sanitizer.
      const std::string part = whole.substr(0, bytes);
      EXPECT_FALSE(decode_client_message(part));
      EXPECT_LT(decode_everywhere(part), 1 << 18);
    }
  }
}

TEST(Hostile, EveryByteReplaced) {
  for (const std::string& whole : all_samples()) {
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const int value : {0x00, 0x7f, 0x80, 0x8f, 0x9f, 0xc0, 0xc1, 0xc4, 0xc6, 0xca, 0xcb,
                              0xcf, 0xd3, 0xd9, 0xdb, 0xdd, 0xdf, 0xff}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        EXPECT_LT(decode_everywhere(changed), 1 << 18);
      }
    }
  }
}

TEST(Hostile, RandomBytes) {
  const std::uint32_t seed = std::random_device{}();
  RecordProperty("seed", static_cast<int>(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto wholes = all_samples();
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes;
    if (i % 2 == 0) {  // noise
      bytes.resize(random() % 64);
      for (char& c : bytes) c = static_cast<char>(random());
    } else {  // a message with a few bytes changed, cut or doubled
      bytes = wholes[random() % wholes.size()];
      for (unsigned n = random() % 4; n-- > 0 && !bytes.empty();) {
        const std::size_t at = random() % bytes.size();
        switch (random() % 3) {
          case 0:
            bytes[at] = static_cast<char>(random());
            break;
          case 1:
            bytes.erase(at, random() % 8);
            break;
          default:
            bytes.insert(at, bytes.substr(at, random() % 32));
        }
      }
    }
    ASSERT_LT(decode_everywhere(bytes), 1 << 18);
  }
}

}  // namespace
}  // namespace facet
