#include "broker/cli/batch_items.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/protocol/limits.h"
#include "tests/unit/cli/temp_dir.h"

namespace facet {
namespace {

std::vector<std::string> names(const BatchItems& items, const TempDir& dir) {
  std::vector<std::string> out;
  for (const BatchItem& item : items.items) {
    out.push_back(std::filesystem::path(item.paths.at(0)).lexically_relative(dir.path).string());
  }
  return out;
}

TEST(ListImages, AFolderInOrderWithoutWhatIsNoImage) {
  const TempDir dir;
  for (const char* name : {"b.JPG", "a.png", "c.jpeg", "notes.txt", "sub/d.png", "no_extension"}) {
    dir.file(name);
  }
  std::filesystem::create_symlink(dir.at("a.png"), dir.at("link.png"));
  std::filesystem::create_directory_symlink(dir.at("sub"), dir.at("linked_folder"));
  ASSERT_EQ(mkfifo(dir.at("fifo.png").c_str(), 0600), 0);
  const auto flat = list_images({dir.path.string()}, false, "what?");
  ASSERT_TRUE(flat);
  EXPECT_EQ(names(*flat, dir), (std::vector<std::string>{"a.png", "b.JPG", "c.jpeg"}));
  EXPECT_EQ(flat->skipped_other, 3u);  // notes.txt, no_extension, fifo.png
  EXPECT_EQ(flat->skipped_links, 2u);
  EXPECT_EQ(flat->items[2].index, 2u);
  EXPECT_EQ(flat->items[0].prompt, "what?");
  const auto deep = list_images({dir.path.string()}, true, "what?");
  ASSERT_TRUE(deep);
  EXPECT_EQ(names(*deep, dir), (std::vector<std::string>{"a.png", "b.JPG", "c.jpeg", "sub/d.png"}));
}

TEST(ListImages, FilesAndPatternsAsNamed) {
  const TempDir dir;
  dir.file("a1.png");
  dir.file("a2.png");
  dir.file("scan.tif");
  dir.file("odd[1].png");
  std::filesystem::create_symlink(dir.at("a1.png"), dir.at("link.png"));
  const auto items = list_images({dir.at("a*.png"), dir.at("a1.png"), dir.at("scan.tif"),
                                  dir.at("odd[1].png"), dir.at("link.png")},
                                 false, "p");
  ASSERT_TRUE(items) << items.error().message;
  EXPECT_EQ(names(*items, dir),
            (std::vector<std::string>{"a1.png", "a2.png", "scan.tif", "odd[1].png", "link.png"}));
}

TEST(ListImages, OnePathInSeveralSpellingsIsOne) {
  const TempDir dir;
  const std::string root = dir.path.string();
  dir.file("g/a1.png");
  dir.file("h/a1.png");
  const auto items = list_images({root + "/g/a1.png", root + "/./g//a1.png", root + "/g/.",
                                  root + "//g/", root + "/h/../g/a1.png"},
                                 false, "p");
  ASSERT_TRUE(items) << items.error().message;
  ASSERT_EQ(items->items.size(), 2u);  // ".." may lead elsewhere: h might be a link
  EXPECT_EQ(items->items[0].paths[0], root + "/g/a1.png");
  EXPECT_EQ(items->items[1].paths[0], root + "/h/../g/a1.png");
}

TEST(ListImages, WhatIsNotThereIsNamed) {
  const TempDir dir;
  const auto missing = list_images({dir.at("none.png")}, false, "p");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("none.png: No such file"), std::string::npos);
  const auto nothing = list_images({dir.at("*.png")}, false, "p");
  ASSERT_FALSE(nothing);
  EXPECT_NE(nothing.error().message.find("nothing matches"), std::string::npos);
}

TEST(ListImages, NamesThatAreNotUtf8StillFitIntoJson) {
  const TempDir dir;
  dir.file("bad\xff.png");
  const auto items = list_images({dir.path.string()}, false, "p");
  ASSERT_TRUE(items);
  ASSERT_EQ(items->items.size(), 1u);
  EXPECT_TRUE(read_image(items->items[0].paths[0], false));
  EXPECT_EQ(items->items[0].image.find('\xff'), std::string::npos);
}

TEST(ListQuestions, ImagesBesideTheFile) {
  const TempDir dir;
  const std::string path =
      dir.file("q/questions.jsonl",
               "{\"image\": \"a.png\", \"question\": \"one?\", \"answer\": 1}\n"
               "\n"
               "{\"image\": [\"a.png\", \"b.png\"], \"question\": \"two?\"}\r\n"
               "{\"question\": \"none?\"}");
  const auto items = list_questions(path);
  ASSERT_TRUE(items) << items.error().message;
  ASSERT_EQ(items->items.size(), 3u);
  EXPECT_EQ(items->items[0].paths, std::vector<std::string>{dir.at("q/a.png")});
  EXPECT_EQ(items->items[0].image, "\"a.png\"");
  EXPECT_EQ(items->items[1].paths.size(), 2u);
  EXPECT_EQ(items->items[1].image, "[\"a.png\",\"b.png\"]");
  EXPECT_EQ(items->items[2].image, "[]");
  EXPECT_EQ(items->items[2].index, 2u);
}

TEST(ListQuestions, ErrorsNameTheLine) {
  const TempDir dir;
  for (const char* bad :
       {"{", "[]", "{\"image\": \"a.png\"}", "{\"question\": 7}",
        "{\"question\": \"x\", \"image\": 7}", "{\"question\": \"x\", \"image\": [\"a\", null]}"}) {
    const std::string path = dir.file("q.jsonl", "{\"question\": \"x\"}\n" + std::string(bad));
    const auto items = list_questions(path);
    ASSERT_FALSE(items) << bad;
    EXPECT_NE(items.error().message.find("q.jsonl:2: "), std::string::npos)
        << items.error().message;
    EXPECT_EQ(items.error().message.find("exception"), std::string::npos);
  }
  const auto keyless = list_questions(dir.file("q.jsonl", "{\"image\": \"a.png\"}"));
  EXPECT_NE(keyless.error().message.find("q.jsonl:1: has no key \"question\""), std::string::npos);
  EXPECT_FALSE(list_questions(dir.at("none")));
}

TEST(ReadImage, RefusesWhatIsNoFile) {
  const TempDir dir;
  const auto message = [](const std::string& path, bool follow) {
    const auto bytes = read_image(path, follow);
    return bytes ? std::string("read") : bytes.error().message;
  };
  EXPECT_EQ(message(dir.file("a.png", "bytes"), false), "read");
  EXPECT_NE(message(dir.file("empty.png", ""), true).find("empty"), std::string::npos);
  EXPECT_NE(message(dir.path.string(), true).find("not a file"), std::string::npos);
  EXPECT_NE(message(dir.at("none"), true).find("No such file"), std::string::npos);
  std::filesystem::create_symlink(dir.at("a.png"), dir.at("link.png"));
  EXPECT_EQ(message(dir.at("link.png"), true), "read");
  EXPECT_NE(message(dir.at("link.png"), false).find("cannot be read"), std::string::npos);
  dir.file("huge.png");
  std::filesystem::resize_file(dir.at("huge.png"), kMaxImageBytes + 1);
  EXPECT_NE(message(dir.at("huge.png"), true).find("exceed the limit"), std::string::npos);
}

}  // namespace
}  // namespace facet
