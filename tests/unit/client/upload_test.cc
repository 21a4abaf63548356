// Images that cannot be sent fail their own request, by name.
#include <sys/stat.h>

#include "tests/unit/client/fake_broker.h"

namespace facet {
namespace {

Failed submit_image(const std::string& path) {
  Pair pair;
  EXPECT_TRUE(pair.client.submit(ask(1), {ImageSource{path, nullptr}}));
  return pair.next_event<Failed>();
}

TEST(Upload, NamesTheFile) {
  const TempDir dir;
  const Failed missing = submit_image((dir.path / "none.png").string());
  EXPECT_EQ(missing.error.code, Code::kNotFound);
  EXPECT_NE(missing.error.message.find("none.png: No such file"), std::string::npos);
  EXPECT_NE(submit_image(dir.path.string()).error.message.find("not a file"), std::string::npos);
  EXPECT_NE(submit_image(dir.file("empty.png", "")).error.message.find("is empty"),
            std::string::npos);
  const std::string fifo = (dir.path / "fifo").string();
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_NE(submit_image(fifo).error.message.find("not a file"), std::string::npos);
}

TEST(Upload, AFileBeyondTheLimitIsNotRead) {
  const TempDir dir;
  const std::string path = dir.file("sparse.png", "x");
  std::filesystem::resize_file(path, (1ull << 30) + 1);
  const Failed failed = submit_image(path);
  EXPECT_EQ(failed.error.code, Code::kTooLarge);
  EXPECT_NE(failed.error.message.find("1073741825 bytes exceed"), std::string::npos);
}

TEST(Upload, AFileThatShrinksFailsAlone) {
  const TempDir dir;
  const std::string path = dir.file("shrinks.png", std::string(60 << 20, 'x'));
  Pair pair;
  const RequestId shrinks = *pair.client.submit(ask(1), {ImageSource{path, nullptr}});
  const RequestId other = *pair.client.submit(ask());
  EXPECT_TRUE(pair.next().is<PutChunk>());
  std::filesystem::resize_file(path, 3 << 20);
  while (true) {
    const auto got = pair.next();
    if (!got.is<GenerateRequest>()) continue;
    EXPECT_EQ(got.as<GenerateRequest>().id, other);
    break;
  }
  const Failed failed = pair.next_event<Failed>();
  EXPECT_EQ(failed.id, shrinks);
  EXPECT_NE(failed.error.message.find("became shorter"), std::string::npos);
}

}  // namespace
}  // namespace facet
