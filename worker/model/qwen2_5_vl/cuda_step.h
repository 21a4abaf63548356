// A step of CudaLanguage: how its rows and chunks are laid out, and where its inputs lie on the
// device.
#pragma once

#include "worker/model/qwen2_5_vl/cuda_language.h"

namespace facet {

struct CudaLanguage::Group {
  std::int32_t segments = 0;
  std::int32_t first_row = 0;
  std::int32_t query_rows = 0;
  std::int32_t key_rows = 0;
  std::int32_t max_queries = 0;
  std::int32_t max_keys = 0;
  bool gathered = false;                      // keys out of the blocks; else the chunk's own rows
  const std::int32_t* query_begin = nullptr;  // [segments + 1], from the group's first row
  const std::int32_t* key_begin = nullptr;
  const std::int32_t* chunks = nullptr;  // [segments], rows of the block table
};

struct CudaLanguage::Step {
  std::int32_t rows = 0;
  std::int32_t decode_rows = 0;  // come first
  std::int32_t chosen_rows = 0;
  const CudaGraph* graph = nullptr;           // of single tokens only: all of the step
  const std::int32_t* tokens = nullptr;       // [rows]
  const std::int32_t* row_chunk = nullptr;    // [rows], row of the block table; -1: padding
  const std::int32_t* row_index = nullptr;    // [rows], in the sequence
  const std::int32_t* positions = nullptr;    // [rows, 3]
  const std::int32_t* image_row = nullptr;    // [rows], -1: a token
  const std::int32_t* lengths = nullptr;      // [decode_rows]
  const std::int32_t* chosen_row = nullptr;   // [chosen_rows]; null: every row, in order
  const std::int32_t* chosen_lane = nullptr;  // [chosen_rows]; -1: nothing is to be chosen
  std::vector<Group> groups;
};

// Single tokens first, then beginnings of prompts, then the rest.
struct CudaLanguage::Order {
  // With `padded_lanes` the chunks are single tokens, and rows of padding follow them.
  Order(std::span<const SequenceChunk> chunks, std::int32_t padded_lanes);
  std::vector<const SequenceChunk*> sorted;
  std::vector<std::int32_t> first_row;          // of each in `sorted`
  std::vector<std::int32_t> last_row_of_chunk;  // of each in the caller's order
  std::size_t num_decode = 0, num_fresh = 0;
  bool is_padded = false;
  std::int32_t rows = 0;         // padding included
  std::int32_t decode_rows = 0;  // likewise
};

}  // namespace facet
