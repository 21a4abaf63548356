// The map that comes with a descriptor, and its answers.
#include "common/protocol/put_fd.h"

#include <gtest/gtest.h>

#include "common/protocol/codec.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

RequestId some_id() {
  RequestId id;
  id.bytes[3] = 9;
  return id;
}

TEST(PutFd, RoundTrips) {
  const auto put = decode_put_fd(encode_message(PutFd{some_id(), 63, kMaxImageBytes}));
  ASSERT_TRUE(put.has_value()) << put.error().message;
  EXPECT_EQ(put->id, some_id());
  EXPECT_EQ(put->image, 63u);
  EXPECT_EQ(put->total_bytes, kMaxImageBytes);
  EXPECT_FALSE(put->wants_taken);
  EXPECT_TRUE(decode_put_fd(encode_message(PutFd{some_id(), 0, 1, true}))->wants_taken);
  const auto taken = decode_put_fd_answer(encode_message(Taken{some_id(), 6}));
  ASSERT_TRUE(taken && std::holds_alternative<Taken>(*taken));
  EXPECT_EQ(std::get<Taken>(*taken).image, 6u);
  const auto stored = decode_put_fd_answer(encode_message(Stored{some_id(), 5}));
  ASSERT_TRUE(stored && std::holds_alternative<Stored>(*stored));
  EXPECT_EQ(std::get<Stored>(*stored).image, 5u);
  Refused refused{some_id(), Code::kExhausted, std::string(5000, 'x'), 70};
  const std::string text = encode_message(refused);
  EXPECT_LE(text.size(), kMaxFdDatagramBytes);
  const auto refusal = decode_put_fd_answer(text);
  ASSERT_TRUE(refusal && std::holds_alternative<Refused>(*refusal));
  EXPECT_EQ(std::get<Refused>(*refusal).retry_after_ms, 70u);
}

TEST(PutFd, WrongValuesAreNamed) {
  const auto why = [](const std::string& map) {
    const auto put = decode_put_fd(map);
    return put ? std::string() : put.error().message;
  };
  EXPECT_NE(why(encode_message(PutFd{some_id(), 64, 1})).find("image: 64"), std::string::npos);
  EXPECT_NE(why(encode_message(PutFd{some_id(), 0, 0})).find("total: 0"), std::string::npos);
  EXPECT_NE(why(encode_message(PutFd{some_id(), 0, kMaxImageBytes + 1})).find("total"),
            std::string::npos);
  EXPECT_NE(why(encode_message(PutFd{RequestId{}, 0, 1})).find("id"), std::string::npos);
  EXPECT_NE(why(encode_message(StatusQuery{})).find("status"), std::string::npos);
  EXPECT_FALSE(why("").empty());
  EXPECT_FALSE(why("\xc1").empty());
  // Over ZeroMQ it is a type like any unknown one.
  EXPECT_FALSE(decode_client_message(encode_message(PutFd{some_id(), 0, 1})).has_value());
}

TEST(PutFd, OnlyABrokersAnswersAreAnswers) {
  for (const std::string& text :
       {std::string(), std::string("\xc1"), encode_message(StatusQuery{}),
        encode_message(Keepalive{1}), encode_message(Stored{RequestId{}, 0}),
        encode_message(Stored{some_id(), 64})}) {
    const auto answer = decode_put_fd_answer(text);
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, Code::kCorrupt);
  }
}

}  // namespace
}  // namespace facet
