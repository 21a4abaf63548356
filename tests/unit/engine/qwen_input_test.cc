// What Qwen2.5-VL's input makes of conversations, and what it refuses by name. With the demo
// model's own files.
#include <gtest/gtest.h>

#include <algorithm>

#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

const std::string kModel = FACET_SOURCE_DIR "/configs/demo-model";
constexpr auto kText = ContentPart::Kind::kText;
constexpr auto kImage = ContentPart::Kind::kImage;

class QwenInput : public ::testing::Test {
 protected:
  QwenInput()
      : config_(*load_qwen_config(kModel)),
        input_(*make_qwen_input_processor(kModel, config_, *load_qwen_image_settings(kModel),
                                          {.image_tokens_max = 100, .max_images = 3})) {}

  Result<Prompt> build(std::vector<Message> messages, std::vector<ImageView> images = {}) {
    GenerateRequest request;
    request.messages = std::move(messages);
    return input_->build(request, images);
  }
  static ImageView image(std::uint32_t width, std::uint32_t height) {
    ImageView view;
    view.width = width;
    view.height = height;
    return view;
  }
  void expect_refused(const Result<Prompt>& built, Code code, const std::string& part) {
    ASSERT_FALSE(built);
    EXPECT_EQ(built.error().code, code);
    EXPECT_NE(built.error().message.find(part), std::string::npos) << built.error().message;
  }
  std::ptrdiff_t count_image_tokens(const Prompt& prompt) const {
    return std::count(prompt.token_ids.begin(), prompt.token_ids.end(), config_.image_token_id);
  }

  QwenConfig config_;
  std::unique_ptr<InputProcessor> input_;
};

TEST_F(QwenInput, RefusesByNameWhatItCannotTake) {
  const Message hello{"user", {{kText, "hello", 0}}};
  expect_refused(build({{"tool", {{kText, "x", 0}}}}), Code::kInvalidArgument, "\"tool\"");
  expect_refused(build({hello, {"User", {{kText, "x", 0}}}}), Code::kInvalidArgument, "\"User\"");
  expect_refused(build({}), Code::kInvalidArgument, "empty");
  expect_refused(build({{"user", {}}}), Code::kInvalidArgument, "prompt is empty");
  expect_refused(build({{"system", {{kText, "", 0}}}, {"user", {{kText, "", 0}}}}),
                 Code::kInvalidArgument, "prompt is empty");
  expect_refused(build({hello}, std::vector<ImageView>(4, image(56, 56))), Code::kTooLarge,
                 "has 4 images, at most 3");
  expect_refused(build({{"user", {{kImage, "", 1}}}}, {image(56, 56)}), Code::kInvalidArgument,
                 "image 1");
  expect_refused(build({{"user", {{kImage, "", 0}}}}, {image(28 * 201, 28)}),
                 Code::kInvalidArgument, "image 0");
  EXPECT_TRUE(build({hello}));
  EXPECT_TRUE(build({{"user", {{kImage, "", 0}}}}, {image(56, 56)}));  // an image alone is a prompt
}

TEST_F(QwenInput, TypedImageTokensStayText) {
  const std::string typed = "<|vision_start|><|image_pad|><|vision_end|><|im_end|>";
  const auto alone = build({{"user", {{kText, typed, 0}}}});
  ASSERT_TRUE(alone) << alone.error().message;
  EXPECT_EQ(count_image_tokens(*alone), 0);
  const auto with =
      build({{"user", {{kText, typed, 0}, {kImage, "", 0}, {kText, typed, 0}}}}, {image(112, 56)});
  ASSERT_TRUE(with) << with.error().message;
  ASSERT_EQ(with->images.size(), 1u);
  EXPECT_EQ(count_image_tokens(*with), with->images[0].count);
}

TEST_F(QwenInput, ImagesStandAnywhereAmongTurnsOfAHistory) {
  const auto prompt = build({{"system", {{kText, "Be brief.", 0}}},
                             {"user", {{kImage, "", 0}, {kText, "and", 0}, {kImage, "", 1}}},
                             {"assistant", {{kText, "Yes.", 0}}},
                             {"user", {{kText, "And now?", 0}, {kImage, "", 2}}}},
                            {image(56, 56), image(112, 56), image(56, 140)});
  ASSERT_TRUE(prompt) << prompt.error().message;
  ASSERT_EQ(prompt->images.size(), 3u);
  std::int32_t end = 0;
  for (std::int32_t i = 0; i < 3; ++i) {
    const ImageSpan& span = prompt->images[static_cast<std::size_t>(i)];
    EXPECT_EQ(span.image, i);
    EXPECT_GE(span.first, end);
    end = span.first + span.count;
    for (std::int32_t at = span.first; at < end; ++at)
      EXPECT_EQ(prompt->token_ids[static_cast<std::size_t>(at)], config_.image_token_id);
    EXPECT_NE(prompt->token_ids[static_cast<std::size_t>(end)], config_.image_token_id);
    const auto merge = static_cast<std::int32_t>(config_.vision.merge_size);
    EXPECT_EQ(span.count, span.grid_height / merge * (span.grid_width / merge));
  }
  EXPECT_EQ(prompt->positions.size(), prompt->token_ids.size());
}

}  // namespace
}  // namespace facet
