#include "common/base/request_id.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace facet {
namespace {

TEST(RequestId, HexReadsBack) {
  for (int i = 0; i < 100; ++i) {
    const RequestId id = RequestId::random();
    EXPECT_EQ(id.hex().size(), 32u);
    EXPECT_EQ(RequestId::from_hex(id.hex()), id);
    const std::string raw(id.bytes.begin(), id.bytes.end());
    EXPECT_EQ(RequestId::from_bytes(raw), id);
  }
  EXPECT_EQ(RequestId::from_hex("000102030405060708090A0B0C0D0E0F")->hex(),
            "000102030405060708090a0b0c0d0e0f");
}

TEST(RequestId, RefusesAllElse) {
  EXPECT_FALSE(RequestId::from_hex(""));
  EXPECT_FALSE(RequestId::from_hex(std::string(31, '0')));
  EXPECT_FALSE(RequestId::from_hex(std::string(33, '0')));
  for (const char bad : {'g', '/', ':', '@', 'G', '`', ' ', '\0', '\xff'}) {
    for (std::size_t at : {0u, 1u, 31u}) {
      std::string text(32, 'a');
      text[at] = bad;
      EXPECT_FALSE(RequestId::from_hex(text)) << static_cast<int>(bad) << " at " << at;
    }
  }
  EXPECT_FALSE(RequestId::from_bytes(std::string(15, 'x')));
  EXPECT_FALSE(RequestId::from_bytes(std::string(17, 'x')));
}

TEST(RequestId, RandomOnesDiffer) {
  std::unordered_set<RequestId> seen;
  for (int i = 0; i < 10000; ++i) {
    const RequestId id = RequestId::random();
    EXPECT_FALSE(id.is_zero());
    EXPECT_TRUE(seen.insert(id).second);
  }
  EXPECT_TRUE(RequestId{}.is_zero());
}

}  // namespace
}  // namespace facet
