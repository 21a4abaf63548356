// What `generate` and `put` refuse, and that the refusal names the key and the limit.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/protocol/limits.h"
#include "tests/unit/protocol/samples.h"

namespace facet {
namespace {

using samples::Packer;
using samples::raw_generate;

Error refusal(const std::string& bytes) {
  auto decoded = decode_client_message(bytes);
  EXPECT_FALSE(decoded);
  Error error = decoded ? Error(Code::kInternal, "accepted") : decoded.error();
  EXPECT_LE(error.message.size(), kMaxErrorBytes);
  return error;
}

void expect_refused(const std::string& bytes, std::string_view part, Code code) {
  const Error error = refusal(bytes);
  EXPECT_NE(error.message.find(part), std::string::npos) << error.message << "\nlacks " << part;
  EXPECT_EQ(error.code, code) << error.message;
}

template <class Value>
std::string with_param(const char* name, Value value) {
  return raw_generate(0, samples::hello_text,
                      [&](Packer& pack) { pack.pack_map(1).pack(name).pack(value); });
}

TEST(Params, UnknownNameIsRefusedByName) {
  expect_refused(with_param("top_q", 1), "params: unknown name \"top_q\"", Code::kInvalidArgument);
}

TEST(Params, NumbersOutsideTheirBounds) {
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  for (const char* name : {"temperature", "top_p", "min_p", "repetition_penalty",
                           "presence_penalty", "frequency_penalty"}) {
    for (const double value : {nan, inf, -inf, 1e300, -1e300}) {
      expect_refused(with_param(name, value), std::string("params.") + name,
                     Code::kInvalidArgument);
    }
    expect_refused(with_param(name, "0.5"), "must be a number, is a string",
                   Code::kInvalidArgument);
  }
  expect_refused(with_param("temperature", -0.1), "-0.1 is not between 0 and 100",
                 Code::kInvalidArgument);
  for (const double value : {0.0, 1e-300, 0.99e-9, 1.01}) {
    expect_refused(with_param("top_p", value), "is not between 1e-09 and 1",
                   Code::kInvalidArgument);
  }
  for (const double value : {1e-300, 0.00099}) {
    expect_refused(with_param("repetition_penalty", value),
                   " is neither 0 nor between 0.001 and 100",
                   Code::kInvalidArgument);
  }
  EXPECT_TRUE(decode_client_message(with_param("top_p", kMinTopP)));
  EXPECT_TRUE(decode_client_message(with_param("repetition_penalty", 0)));
  EXPECT_TRUE(decode_client_message(with_param("repetition_penalty", kMinPenalty)));
  EXPECT_TRUE(decode_client_message(with_param("temperature", 1)));  // an integer is a number
  EXPECT_TRUE(decode_client_message(with_param("presence_penalty", -2)));
  EXPECT_TRUE(decode_client_message(with_param("top_p", 0.5f)));
}

TEST(Params, Integers) {
  expect_refused(with_param("max_tokens", -1), "params.max_tokens: -1 is not between 1 and",
                 Code::kInvalidArgument);
  expect_refused(with_param("max_tokens", 0), "params.max_tokens: 0 is not between 1 and",
                 Code::kInvalidArgument);
  expect_refused(with_param("max_tokens", 1ull << 32), "4294967296 is not between",
                 Code::kInvalidArgument);
  expect_refused(with_param("max_tokens", 1.5), "must be an integer, is a float",
                 Code::kInvalidArgument);
  expect_refused(with_param("ignore_eos", 1), "must be a boolean", Code::kInvalidArgument);
  EXPECT_TRUE(decode_client_message(with_param("seed", ~0ull)));
  expect_refused(with_param("logprobs", 21), "params.logprobs: 21 is not between 0 and 20",
                 Code::kInvalidArgument);
  expect_refused(with_param("logprobs", true), "params.logprobs: must be an integer",
                 Code::kInvalidArgument);
  EXPECT_TRUE(decode_client_message(with_param("logprobs", 20)));
  GenerateRequest request = samples::generate();
  request.sampling.min_tokens = 18;
  expect_refused(encode_message(request), "min_tokens: 18 exceeds max_tokens 17",
                 Code::kInvalidArgument);
}

TEST(Params, StopStrings) {
  GenerateRequest request = samples::generate();
  request.sampling.stop.assign(kMaxStops + 1, "x");
  expect_refused(encode_message(request), "params.stop: 17 items exceed the limit of 16",
                 Code::kTooLarge);
  request.sampling.stop = {"ok", std::string(kMaxStopBytes + 1, 'x')};
  expect_refused(encode_message(request), "params.stop[1]: 257 bytes exceed the limit of 256",
                 Code::kTooLarge);
  request.sampling.stop = {""};
  expect_refused(encode_message(request), "params.stop: an empty string", Code::kInvalidArgument);
  request.sampling.stop = {"\xc3"};
  expect_refused(encode_message(request), "params.stop[0]: is not valid UTF-8",
                 Code::kInvalidArgument);
}

TEST(Messages, TextAndRoles) {
  GenerateRequest request = samples::generate();
  request.messages[1].content[1].text = "a\xed\xa0\x80";  // a surrogate
  expect_refused(encode_message(request), "messages[1].content[1].text: is not valid UTF-8",
                 Code::kInvalidArgument);
  request = samples::generate();
  request.messages[0].role = std::string(33, 'r');
  expect_refused(encode_message(request), "messages[0].role: 33 bytes exceed the limit of 32",
                 Code::kTooLarge);
  request = samples::generate();
  request.messages.clear();
  expect_refused(encode_message(request), "messages: is empty", Code::kInvalidArgument);
  request.messages.assign(kMaxMessages + 1, Message{"user", {}});
  expect_refused(encode_message(request), "1025 items exceed the limit of 1024", Code::kTooLarge);
  request.messages.assign(1, Message{"user", {}});
  request.messages[0].content.assign(kMaxParts + 1, samples::text_part("x"));
  expect_refused(encode_message(request), "messages[0].content: 1025 items", Code::kTooLarge);
}

TEST(Messages, Images) {
  GenerateRequest request = samples::generate();
  request.num_images = 1;
  expect_refused(encode_message(request), "image 1 is named, but `images` is 1",
                 Code::kInvalidArgument);
  request.num_images = 3;
  expect_refused(encode_message(request), "images: is 3, but the messages name 2",
                 Code::kInvalidArgument);
  request = samples::generate();
  request.messages[1].content[0].image = 1;
  expect_refused(encode_message(request), "image 1 is named where image 0 is due",
                 Code::kInvalidArgument);
  request = samples::generate();
  request.messages[1].content[2].image = 0;
  expect_refused(encode_message(request), "image 0 is named where image 1 is due",
                 Code::kInvalidArgument);
  request.num_images = kMaxImages + 1;
  expect_refused(encode_message(request), "images: 65 is not between 0 and 64",
                 Code::kInvalidArgument);
}

TEST(Messages, ContentOfOtherTypes) {
  expect_refused(raw_generate(
                     0, [](Packer& pack) { pack.pack(7); }, samples::no_params),
                 "messages[0].content: must be a string or an array", Code::kInvalidArgument);
  expect_refused(raw_generate(
                     0, [](Packer& pack) { pack.pack_array(1).pack("x"); }, samples::no_params),
                 "messages[0].content[0]: must be a map, is a string", Code::kInvalidArgument);
  expect_refused(
      raw_generate(
          0, [](Packer& pack) { pack.pack_array(1).pack_map(1).pack("type").pack("video"); },
          samples::no_params),
      "content[0].type: must be \"text\" or \"image\"", Code::kInvalidArgument);
  expect_refused(raw_generate(0, samples::hello_text, [](Packer& pack) { pack.pack_array(0); }),
                 "params: must be a map, is an array", Code::kInvalidArgument);
}

TEST(Envelope, VersionTypeAndId) {
  std::string bytes = encode_message(samples::generate());
  const std::size_t version = bytes.find("v") + 1;
  bytes[version] = 2;
  expect_refused(bytes, "v: version 2 is not spoken here, 1 is", Code::kUnsupported);
  expect_refused(encode_message(Keepalive{}), "unknown message type \"keepalive\"",
                 Code::kUnsupported);
  expect_refused(encode_message(CancelRequest{}), "id: is all zeros", Code::kInvalidArgument);
  expect_refused(std::string("\x80"), "v: missing", Code::kInvalidArgument);
  expect_refused(std::string("\x91\xc0"), "must be a map", Code::kInvalidArgument);
  expect_refused(std::string("\x81\x01\x02"), "keys must be strings", Code::kInvalidArgument);
  expect_refused(std::string("\x82\xa1v\x01\xa1v\x01"), "message: \"v\" is given twice",
                 Code::kInvalidArgument);
  expect_refused(std::string("\x84\xa1v\x01\xa4type\xa6status\xa1x\x01\xa1x\x02"),
                 "message: \"x\" is given twice", Code::kInvalidArgument);
  expect_refused(encode_message(StatusQuery{}) + "x", "1 bytes after", Code::kInvalidArgument);
}

TEST(Envelope, UnknownKeysAreIgnored) {
  msgpack::sbuffer buffer;
  Packer pack(buffer);
  pack.pack_map(3).pack("type").pack("status").pack("later").pack_array(1).pack(1.5);
  pack.pack("v").pack(1);
  EXPECT_TRUE(decode_client_message({buffer.data(), buffer.size()}));
}

TEST(Envelope, IdOfARefusedRequestIsFound) {
  GenerateRequest request = samples::generate();
  request.num_images = 63;
  EXPECT_EQ(find_request_id(encode_message(request)), request.id);
  EXPECT_EQ(find_request_id(encode_message(StatusQuery{})), std::nullopt);
  EXPECT_EQ(find_request_id("\xc1"), std::nullopt);
}

TEST(Envelope, WhatCanBeReadOfARefusedMessageIsSalvaged) {
  const auto put_of = [](const std::string& bytes) {
    const auto salvaged = salvage_client_message(bytes);
    return salvaged && std::holds_alternative<PutChunk>(*salvaged) ? std::get<PutChunk>(*salvaged)
                                                                   : PutChunk{};
  };
  PutChunk put = put_of(encode_message(PutChunk{samples::id(), 70, 0, 1ull << 40}));
  EXPECT_EQ(put.id, samples::id());
  EXPECT_EQ(put.image, 70u);
  EXPECT_EQ(put.offset, 1ull << 40);
  std::string bytes = encode_message(PutChunk{samples::id(), 0, 1, 0});
  bytes[bytes.find("image")] = 'I';
  bytes[bytes.find("offset")] = 'O';
  put = put_of(bytes);
  EXPECT_EQ(put.id, samples::id());
  EXPECT_EQ(put.image, UINT32_MAX);
  EXPECT_EQ(put.offset, UINT64_MAX);
  EXPECT_EQ(put_of(encode_message(PutChunk{})).id, RequestId{});  // an id of zeros
  const auto generate = salvage_client_message(encode_message(samples::generate()));
  ASSERT_TRUE(generate && std::holds_alternative<GenerateRequest>(*generate));
  EXPECT_EQ(std::get<GenerateRequest>(*generate).id, samples::id());
  EXPECT_FALSE(salvage_client_message(encode_message(StatusQuery{})));
  EXPECT_FALSE(salvage_client_message("\xc1"));
}

TEST(Put, ChunkAndItsPlace) {
  const PutChunk put{samples::id(), 0, 10, 8};
  const auto refused = [](const PutChunk& bad, std::optional<std::string_view> chunk) {
    auto decoded = decode_client_message(encode_message(bad), chunk);
    EXPECT_FALSE(decoded);
    return decoded ? std::string() : decoded.error().message;
  };
  EXPECT_TRUE(decode_client_message(encode_message(put), "ab"));
  EXPECT_NE(refused(put, std::nullopt).find("frame 1"), std::string::npos);
  EXPECT_NE(refused(put, "").find("frame 1"), std::string::npos);
  EXPECT_NE(refused(put, "abc").find("exceed `total`, 10"), std::string::npos);
  EXPECT_NE(refused({samples::id(), 0, 0, 0}, "a").find("total: 0"), std::string::npos);
  EXPECT_NE(refused({samples::id(), 64, 10, 0}, "a").find("image: 64"), std::string::npos);
  EXPECT_NE(refused({samples::id(), 0, ~0ull, 0}, "a").find("total: "), std::string::npos);
  EXPECT_NE(refused({samples::id(), 0, 1 << 21, 0}, std::string(kMaxChunkBytes + 1, 'x'))
                .find("exceeds 1048576"),
            std::string::npos);
  EXPECT_FALSE(decode_client_message(encode_message(StatusQuery{}), "x"));
}

}  // namespace
}  // namespace facet
