#include <gtest/gtest.h>

#include <numeric>

#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/engine/qwen2_5_vl/plan.h"
#include "worker/engine/qwen2_5_vl/vision_layout.h"
#include "worker/image/qwen_patches.h"

namespace facet {
namespace {

TEST(VisionLayout, WindowsOfARaggedGrid) {
  const VisionLayout layout = make_vision_layout(QwenVisionConfig{}, 10, 14);
  EXPECT_EQ(layout.cell_order,
            (std::vector<std::int64_t>{0,  1,  2,  3,  7,  8,  9,  10, 14, 15, 16, 17,
                                       21, 22, 23, 24, 4,  5,  6,  11, 12, 13, 18, 19,
                                       20, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34}));
  EXPECT_EQ(layout.window_patches, (std::vector<std::int64_t>{64, 48, 16, 12}));
  ASSERT_EQ(layout.rows.size(), 140u);
  // The fifth cell is the one at row 1, column 0: its patches are rows 2, 3 and columns 0, 1.
  EXPECT_EQ((std::vector<std::int32_t>(layout.rows.begin() + 16, layout.rows.begin() + 20)),
            (std::vector<std::int32_t>{2, 2, 3, 3}));
  EXPECT_EQ((std::vector<std::int32_t>(layout.columns.begin() + 16, layout.columns.begin() + 20)),
            (std::vector<std::int32_t>{0, 1, 0, 1}));
}

TEST(VisionLayout, EveryCellStandsOnce) {
  for (std::int32_t height = 2; height <= 20; height += 2) {
    for (std::int32_t width = 2; width <= 20; width += 2) {
      VisionLayout layout = make_vision_layout(QwenVisionConfig{}, height, width);
      std::sort(layout.cell_order.begin(), layout.cell_order.end());
      std::vector<std::int64_t> all(static_cast<std::size_t>(height * width / 4));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(layout.cell_order, all);
      EXPECT_EQ(std::accumulate(layout.window_patches.begin(), layout.window_patches.end(), 0L),
                height * width);
    }
  }
}

TEST(MRope, TextGoesOnBehindTheLargerSideOfAnImage) {
  Prompt prompt;
  prompt.token_ids = {1, 2, 9, 9, 9, 9, 9, 9, 3, 4};
  prompt.images = {{0, 2, 6, 4, 6}};  // 2 x 3 merged cells
  fill_mrope_positions(2, prompt);
  const std::vector<Position> expected{{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {2, 2, 3}, {2, 2, 4},
                                       {2, 3, 2}, {2, 3, 3}, {2, 3, 4}, {5, 5, 5}, {6, 6, 6}};
  EXPECT_EQ(prompt.positions, expected);
  EXPECT_EQ(prompt.position_delta, 7 - 10);
}

QwenConfig small_model() {
  QwenConfig config;
  config.text = {1000, 64, 128, 2, 4, 2, 2048, 1e-6, 1e6, {2, 3, 3}};
  config.vision.hidden_size = 64;
  config.vision.num_heads = 4;
  config.vision.depth = 2;
  config.vision.out_hidden_size = 64;
  return config;
}

TEST(Plan, FillsTheBudgetAndNeverExceedsIt) {
  QwenImageSettings settings;
  PlanRequest request;
  request.max_lanes = 1000;
  std::int32_t blocks_before = 0;
  for (std::uint64_t budget = 1'000'000'000; budget <= 3'000'000'000; budget += 200'000'000) {
    request.budget_bytes = budget;
    const auto plan = plan_qwen(small_model(), settings, request);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_LE(plan->used_bytes(), budget);
    EXPECT_GE(plan->kv_blocks, blocks_before);
    EXPECT_GE(plan->kv_tokens(), plan->max_model_len);
    EXPECT_EQ(plan->max_model_len, 2048);
    blocks_before = plan->kv_blocks;
  }
}

TEST(Plan, SaysWhatItNeedsAndWhatItHas) {
  PlanRequest request;
  request.budget_bytes = 50'000'000;
  const auto plan = plan_qwen(small_model(), {}, request);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Code::kTooLarge);
  EXPECT_NE(plan.error().message.find("needs"), std::string::npos);
  EXPECT_NE(plan.error().message.find("50.00 MB"), std::string::npos) << plan.error().message;
  request.budget_bytes = 4'000'000'000;
  request.max_model_len = 4096;
  EXPECT_FALSE(plan_qwen(small_model(), {}, request));  // more than the model was made for
}

// No image that smart_resize accepts has more tokens than the plan says.
TEST(Plan, NoImageIsLargerThanPlanned) {
  for (const auto& [low, high] : {std::pair{50176, 50176}, {3136, 12845056}, {3136, 100352}}) {
    QwenImageSettings settings;
    settings.min_pixels = low;
    settings.max_pixels = high;
    QwenConfig config = small_model();
    config.text.max_position_embeddings = 1 << 20;
    PlanRequest request;
    request.budget_bytes = 1ull << 40;
    const auto plan = plan_qwen(config, settings, request);
    ASSERT_TRUE(plan) << plan.error().message;
    std::int64_t most = 0;
    for (std::int64_t height = 1; height < 1500; height += 1 + height / 7) {
      for (std::int64_t width = 1; width < 9000; width += 1 + width / 13) {
        const auto image = plan_qwen_image({height, width}, settings);
        if (image) most = std::max(most, image->num_tokens);
      }
    }
    EXPECT_LE(most, plan->image_tokens_max) << low << " " << high;
    EXPECT_GE(2 * most, plan->image_tokens_max) << "a bound far above any image";
  }
}

}  // namespace
}  // namespace facet
