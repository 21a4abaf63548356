// Names of the prefixes of a sequence, block by block. The key of a block covers its own tokens,
// the images they stand for, and the key of the block before: all that its keys and values depend
// on.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/content_key.h"
#include "worker/engine/sequence.h"

namespace facet {

// Content of an image of a prompt: hash of its encoded bytes, its size and its grid. None when the
// hash is not known.
ContentKey image_key(const ImageView& image, const ImageSpan& span);

// Appends to `keys` until it has those of the sequence's first `num_blocks` blocks, which hold
// known tokens only. Stops before a block that shows an image without a key.
void extend_prefix_keys(const Sequence& sequence, std::int32_t block_tokens,
                        std::int32_t num_blocks, std::vector<ContentKey>& keys);

}  // namespace facet
