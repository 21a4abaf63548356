#include "worker/engine/prefix_keys.h"

#include "common/base/check.h"

namespace facet {
namespace {

class Material {
 public:
  void put(const void* from, std::size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), begin, begin + bytes);
  }
  template <class T>
  void put_value(const T& value) {
    put(&value, sizeof value);
  }
  ContentKey key() const { return content_key(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace

ContentKey image_key(const ImageView& image, const ImageSpan& span) {
  if (image.content_hash_high == 0 && image.content_hash_low == 0) return {};
  Material material;
  material.put_value(image.content_hash_high);
  material.put_value(image.content_hash_low);
  material.put_value(image.width);
  material.put_value(image.height);
  material.put_value(span.grid_height);
  material.put_value(span.grid_width);
  return material.key();
}

void extend_prefix_keys(const Sequence& sequence, std::int32_t block_tokens,
                        std::int32_t num_blocks, std::vector<ContentKey>& keys) {
  FACET_CHECK(num_blocks * block_tokens <= sequence.num_known());
  for (auto block = static_cast<std::int32_t>(keys.size()); block < num_blocks; ++block) {
    const std::int32_t first = block * block_tokens;
    Material material;
    material.put_value(keys.empty() ? ContentKey{} : keys.back());
    material.put(&sequence.tokens[static_cast<std::size_t>(first)],
                 static_cast<std::size_t>(block_tokens) * sizeof(std::int32_t));
    for (const ImageSpan& image : sequence.prompt.images) {
      if (image.first >= first + block_tokens || image.first + image.count <= first) continue;
      if (image.key.is_none()) return;
      material.put_value(image.first);
      material.put_value(image.key);
    }
    keys.push_back(material.key());
  }
}

}  // namespace facet
