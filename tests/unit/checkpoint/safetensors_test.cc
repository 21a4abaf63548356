#include "worker/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/unit/checkpoint/safetensors_bytes.h"
#include "worker/checkpoint/checkpoint.h"

namespace facet {
namespace {

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest() {
    std::string name = std::filesystem::temp_directory_path() / "facet-safetensors-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~SafetensorsTest() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }
  void expect_refused(const std::string& header, const std::string& data, const std::string& why) {
    const auto file =
        SafetensorsFile::open(write("bad.safetensors", safetensors_bytes(header, data)));
    ASSERT_FALSE(file) << header;
    EXPECT_NE(file.error().message.find(why), std::string::npos) << file.error().message;
    EXPECT_NE(file.error().message.find("bad.safetensors"), std::string::npos);
  }

  std::string folder_;
};

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
const std::string kData(16, 'x');

TEST_F(SafetensorsTest, ReadsAFile) {
  const auto file =
      SafetensorsFile::open(write("good.safetensors", safetensors_bytes(kGood, kData)));
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[1].dtype, TensorDtype::kBf16);
  EXPECT_EQ(file->tensors()[1].shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(std::memcmp(file->tensors()[1].data, kData.data(), 8), 0);
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string whole = safetensors_bytes(kGood, kData);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(SafetensorsFile::open(write("cut.safetensors", whole.substr(0, size)))) << size;
  EXPECT_FALSE(SafetensorsFile::open(write("long.safetensors", whole + "x")));
}

TEST_F(SafetensorsTest, DamagedHeadersAreNamed) {
  const auto one = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  expect_refused("[]", "", "not a JSON object");
  expect_refused("{\"t\":", "", "not a JSON object");
  expect_refused(R"({"t":3})", "", "tensor t");
  expect_refused(one(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])"), "1234", "F33");
  expect_refused(one(R"("shape":[1],"data_offsets":[0,4])"), "1234", "no dtype");
  expect_refused(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), "1234", "-1");
  expect_refused(one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), "1234", "data_offsets");
  expect_refused(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), "1234", "outside");
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), "1234", "outside");
  expect_refused(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), "1234", "does not take");
  expect_refused(one(R"("dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,0])"),
                 "", "does not take");
}

TEST_F(SafetensorsTest, ANameGivenTwiceIsRefused) {
  const std::string one = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_refused("{\"t\":" + one + ",\"t\":" + one + "}", "1234", "header: t is given twice");
  expect_refused("{\"t\":" + one + ",\"\\u0074\":" + one + "}", "1234", "t is given twice");
  expect_refused(R"({"t":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}})", "1234",
                 "dtype is given twice");
}

TEST_F(SafetensorsTest, NestingEndsBeforeTheStackDoes) {
  const std::string deep(1'000'000, '[');
  expect_refused(R"({"t":{"dtype":"F32","shape":)" + deep, "", "nested deeper than 64");
  expect_refused(R"({"t":{"dtype":"F32","shape":[)" + deep + std::string(1'000'000, ']') +
                     R"(],"data_offsets":[0,4]}})",
                 "1234", "nested deeper than 64");
  // Brackets in a name are none.
  const std::string name = deep.substr(0, 100) + "\\\"{";
  const auto file = SafetensorsFile::open(
      write("brackets.safetensors",
            safetensors_bytes(
                "{\"" + name + R"(":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "12")));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors()[0].bytes, 2u);
}

TEST_F(SafetensorsTest, MessagesStayShortAndInOneLine) {
  const std::string name = "line\\nbreak" + std::string(100'000, 'x');
  const auto file = SafetensorsFile::open(
      write("long.safetensors",
            safetensors_bytes("{\"" + name + "\":" + std::string(50'000, '3') + "}", "")));
  ASSERT_FALSE(file);
  EXPECT_LT(file.error().message.size(), 1000u);
  EXPECT_EQ(file.error().message.find('\n'), std::string::npos);
  expect_refused(R"({"t":{"dtype":")" + name + R"(","shape":[1],"data_offsets":[0,4]}})", "1234",
                 "dtype \"line\\nbreakxxx");
}

TEST_F(SafetensorsTest, OverlapsAndHolesAreNamed) {
  const std::string a =
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8",)";
  expect_refused(a + R"("shape":[4],"data_offsets":[2,6]}})", "123456", "overlaps");
  expect_refused(a + R"("shape":[1],"data_offsets":[5,6]}})", "123456", "hole");
  expect_refused(a + R"("shape":[2],"data_offsets":[4,6]}})", "12345678", "2 bytes after");
  expect_refused(a + R"("shape":[4],"data_offsets":[0,4]}})", "1234", "b overlaps");
  // A tensor of no bytes takes part too.
  expect_refused(a + R"("shape":[0],"data_offsets":[5,5]}})", "12345", "hole");
}

TEST_F(SafetensorsTest, HeaderLengthBeyondTheFileIsRefused) {
  std::string bytes = safetensors_bytes(kGood, kData);
  for (const std::uint64_t length :
       {std::uint64_t{1} << 40, ~std::uint64_t{0}, std::uint64_t{bytes.size()},
        std::uint64_t{bytes.size()} - 7, std::uint64_t{100'000'001}, std::uint64_t{0}}) {
    std::memcpy(bytes.data(), &length, 8);
    const auto file = SafetensorsFile::open(write("length.safetensors", bytes));
    ASSERT_FALSE(file) << length;
    const std::string why = length == 0 ? "not a JSON object" : std::to_string(length);
    EXPECT_NE(file.error().message.find(why), std::string::npos) << file.error().message;
  }
}

TEST_F(SafetensorsTest, ShardsMustAgreeWithTheirIndex) {
  const std::string index = "model.safetensors.index.json";
  EXPECT_EQ(Checkpoint::open(folder_).error().code, Code::kNotFound);
  write("one.safetensors", safetensors_bytes(kGood, kData));
  write(index, R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})");
  const auto good = Checkpoint::open(folder_);
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(good->bytes(), 16u);
  EXPECT_NE(good->find("a"), nullptr);
  EXPECT_EQ(good->find("c"), nullptr);
  write(index, R"({"weight_map":{"a":"one.safetensors","c":"one.safetensors"}})");
  EXPECT_FALSE(Checkpoint::open(folder_));
  write(index, R"({"weight_map":{"a":"two.safetensors"}})");
  EXPECT_EQ(Checkpoint::open(folder_).error().code, Code::kNotFound);
  write(index, R"({"weight_map":{"a":"../one.safetensors"}})");
  EXPECT_FALSE(Checkpoint::open(folder_));
  write(index, R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})");
  EXPECT_NE(Checkpoint::open(folder_).error().message.find("a is given twice"), std::string::npos);
  for (const char* bad : {"{}", "[]", "", R"({"weight_map":{}})", R"({"weight_map":{"a":3}})",
                          R"({"weight_map":{"a":"x\u0000y"}})", R"({"weight_map":["a"]})"}) {
    write(index, bad);
    const auto refused = Checkpoint::open(folder_);
    ASSERT_FALSE(refused) << bad;
    EXPECT_NE(refused.error().message.find(index), std::string::npos) << refused.error().message;
  }
  write("two.safetensors", safetensors_bytes(kGood, kData));
  write(index, R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const auto doubled = Checkpoint::open(folder_);
  ASSERT_FALSE(doubled);
  EXPECT_NE(doubled.error().message.find("also in"), std::string::npos);
}

}  // namespace
}  // namespace facet
