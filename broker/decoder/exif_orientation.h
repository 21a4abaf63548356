// The orientation tag (274) of EXIF and XMP metadata. Bounded readers: any bytes are safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace facet {

// `tiff` is a TIFF stream: "II*\0" or "MM\0*", then the offset of its first directory.
// The tag's value (any, also outside 1..8), or nullopt where there is no such tag.
std::optional<std::uint32_t> read_exif_orientation(std::span<const std::uint8_t> tiff);

// Finds tiff:Orientation="N" or <tiff:Orientation>N in an XMP packet.
std::optional<std::uint32_t> read_xmp_orientation(std::span<const std::uint8_t> packet);

}  // namespace facet
