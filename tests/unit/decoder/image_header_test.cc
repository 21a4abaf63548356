#include "broker/decoder/image_header.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "broker/decoder/exif_orientation.h"

namespace facet {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

std::uint8_t low(std::uint32_t value) { return static_cast<std::uint8_t>(value); }
Bytes be16(std::uint32_t v) { return {low(v >> 8), low(v)}; }
Bytes be32(std::uint32_t v) { return be16(v >> 16) + be16(v); }
Bytes le32(std::uint32_t v) { return {low(v), low(v >> 8), low(v >> 16), low(v >> 24)}; }
Bytes text(std::string_view s) { return {s.begin(), s.end()}; }

Bytes segment(std::uint8_t marker, const Bytes& body) {
  return Bytes{0xff, marker} + be16(static_cast<std::uint32_t>(body.size()) + 2) + body;
}

Bytes frame(std::uint32_t width, std::uint32_t height, std::uint8_t channels = 3,
            std::uint8_t bits = 8, std::uint8_t marker = 0xc0) {
  return segment(marker, Bytes{bits} + be16(height) + be16(width) + Bytes{channels} +
                             Bytes(3u * channels, 1));
}

const Bytes kStart = {0xff, 0xd8};
const Bytes kScan = {0xff, 0xda, 0, 3, 1};

Bytes tiff(std::uint32_t value) {
  return text(std::string_view("MM\0*\0\0\0\10", 8)) + be16(1) + be16(274) + be16(3) + be32(1) +
         be16(value) + be16(0) + be32(0);
}

Bytes exif(std::uint32_t value) {
  return text(std::string_view("Exif\0\0", 6)) + tiff(value);
}

Bytes chunk(std::string_view type, const Bytes& body) {
  return be32(static_cast<std::uint32_t>(body.size())) + text(type) + body + be32(0);
}

Bytes png(std::uint32_t width, std::uint32_t height, std::uint8_t depth = 8,
          std::uint8_t color = 2) {
  return Bytes{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'} +
         chunk("IHDR", be32(width) + be32(height) + Bytes{depth, color, 0, 0, 0});
}

std::string error_of(const Bytes& bytes, const ImageLimits& limits = {}) {
  const auto info = read_image_header(bytes, limits);
  return info ? "" : info.error().message;
}

TEST(ImageHeader, ReadsJpeg) {
  for (const std::uint8_t marker : {0xc0, 0xc1, 0xc2, 0xc9, 0xca}) {
    const auto info = read_image_header(kStart + frame(640, 480, 3, 8, marker) + kScan);
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->format, ImageFormat::kJpeg);
    EXPECT_EQ(info->width, 640u);
    EXPECT_EQ(info->height, 480u);
    EXPECT_EQ(info->channels, 3u);
    EXPECT_EQ(info->rgb_bytes(), 640u * 480 * 3);
  }
}

TEST(ImageHeader, OrientationSwapsSides) {
  for (std::uint32_t value = 0; value < 12; ++value) {
    for (const bool before : {true, false}) {  // the segment may also follow the frame header
      const Bytes app = segment(0xe1, exif(value));
      const Bytes sof = frame(30, 20);
      const auto info = read_image_header(kStart + (before ? app + sof : sof + app) + kScan);
      ASSERT_TRUE(info);
      EXPECT_EQ(info->orientation, value >= 1 && value <= 8 ? value : 1u);
      EXPECT_EQ(info->width, value >= 5 && value <= 8 ? 20u : 30u);
      EXPECT_EQ(info->stored_width, 30u);
    }
  }
}

TEST(ImageHeader, RefusesJpegsByName) {
  EXPECT_EQ(error_of({}), "the image is empty");
  EXPECT_EQ(error_of(text("GIF89a")), "GIF is not supported: only JPEG, PNG and WebP can be read");
  EXPECT_EQ(error_of({0xff}), "not a JPEG, PNG or WebP: starts with ff");
  EXPECT_EQ(error_of(kStart + Bytes{0xff}), "JPEG header is truncated");
  EXPECT_EQ(error_of(kStart + frame(70000 & 0xffff, 0) + kScan), "JPEG header says 4464 x 0");
  EXPECT_EQ(error_of(kStart + frame(65535, 20) + kScan),
            "JPEG header says 65535 x 20: a side is limited to 16384 pixels");
  EXPECT_EQ(error_of(kStart + frame(16000, 16000) + kScan),
            "JPEG header says 16000 x 16000: an image is limited to 50000000 pixels");
  EXPECT_EQ(error_of(kStart + frame(8, 8, 2) + kScan),
            "JPEG with 2 components: only 1, 3 and 4 can be read");
  EXPECT_EQ(error_of(kStart + frame(8, 8, 3, 12) + kScan),
            "JPEG with 12 bits per sample: only 8 can be read");
  EXPECT_EQ(error_of(kStart + frame(8, 8, 3, 8, 0xc3) + kScan),
            "JPEG of process SOF3: only sequential and progressive ones can be read");
  EXPECT_EQ(error_of(kStart + kScan), "JPEG has no frame header before its first scan");
  EXPECT_EQ(error_of(kStart + frame(8, 8) + Bytes{0xff, 0xd9}), "JPEG ends before its first scan");
  EXPECT_EQ(error_of(kStart + Bytes{0xff, 0xe0, 0, 1}), "JPEG segment has length 1");
  EXPECT_EQ(error_of(kStart + frame(8, 8) + frame(8, 8) + kScan), "JPEG has two frame headers");
}

TEST(ImageHeader, BoundsTheNumberOfSegments) {
  Bytes many = kStart;
  for (int i = 0; i < 5000; ++i) many = std::move(many) + Bytes{0xff, 0xe5, 0, 2};
  EXPECT_EQ(error_of(many + frame(8, 8) + kScan),
            "JPEG has more than 4096 segments before its first scan");
}

TEST(ImageHeader, ReadsPng) {
  const auto info = read_image_header(png(9, 7, 16, 4) + chunk("IDAT", Bytes(5)) +
                                      chunk("eXIf", tiff(6)));
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->format, ImageFormat::kPng);
  EXPECT_EQ(info->width, 7u);
  EXPECT_EQ(info->stored_width, 9u);
  EXPECT_EQ(info->channels, 2u);
  EXPECT_TRUE(info->is_16bit);
}

TEST(ImageHeader, RefusesPngsByName) {
  EXPECT_EQ(error_of(png(0, 7)), "PNG header says 0 x 7");
  EXPECT_EQ(error_of(png(1u << 31, 1)),
            "PNG header says 2147483648 x 1: a side is limited to 16384 pixels");
  EXPECT_EQ(error_of(png(8, 8, 3, 2)), "PNG header says colour type 2 with 3 bits");
  EXPECT_EQ(error_of(png(8, 8, 8, 7)), "PNG header says colour type 7 with 8 bits");
  Bytes cut = png(8, 8);
  cut.pop_back();
  EXPECT_EQ(error_of(cut), "PNG header is truncated");
}

Bytes webp_chunk(std::string_view type, const Bytes& body) {
  return text(type) + le32(static_cast<std::uint32_t>(body.size())) + body +
         Bytes(body.size() % 2);
}

Bytes riff(const Bytes& chunks) {
  return text("RIFF") + le32(static_cast<std::uint32_t>(chunks.size()) + 4) + text("WEBP") + chunks;
}

Bytes vp8(std::uint32_t width, std::uint32_t height) {
  return webp_chunk("VP8 ", Bytes{0x10, 0, 0, 0x9d, 0x01, 0x2a} + le32(height << 16 | width));
}

Bytes vp8l(std::uint32_t width, std::uint32_t height, std::uint32_t top = 0) {
  return webp_chunk("VP8L", Bytes{0x2f} + le32((width - 1) | (height - 1) << 14 | top << 28));
}

Bytes vp8x(std::uint32_t width, std::uint32_t height, std::uint8_t flags) {
  const Bytes w = le32(width - 1);
  const Bytes h = le32(height - 1);
  return webp_chunk("VP8X", {flags, 0, 0, 0, w[0], w[1], w[2], h[0], h[1], h[2]});
}

TEST(ImageHeader, ReadsWebp) {
  // The upper two bits of a lossy side are a scale: not applied.
  const auto lossy = read_image_header(riff(vp8(9 | 0x4000, 7)));
  ASSERT_TRUE(lossy) << lossy.error().message;
  EXPECT_EQ(lossy->format, ImageFormat::kWebp);
  EXPECT_EQ(lossy->width, 9u);
  EXPECT_EQ(lossy->height, 7u);
  const auto lossless = read_image_header(riff(vp8l(16384, 3, 1)));
  ASSERT_TRUE(lossless) << lossless.error().message;
  EXPECT_EQ(lossless->width, 16384u);
  EXPECT_EQ(lossless->height, 3u);
  EXPECT_EQ(lossless->channels, 4u);
}

TEST(ImageHeader, WebpMetadataCountsOnlyWhenAnnounced) {
  const auto orientation_of = [](std::uint8_t flags, const Bytes& rest) {
    const auto info = read_image_header(riff(vp8x(30, 20, flags) + vp8(30, 20) + rest));
    EXPECT_TRUE(info) << info.error().message;
    return info ? info->orientation : 0;
  };
  const Bytes six = webp_chunk("EXIF", tiff(6));
  EXPECT_EQ(orientation_of(0x08, six), 6u);
  EXPECT_EQ(orientation_of(0x08, webp_chunk("EXIF", exif(6))), 6u);
  EXPECT_EQ(orientation_of(0x00, six), 1u);
  EXPECT_EQ(orientation_of(0x08, webp_chunk("EXIF", tiff(3)) + six), 3u);
  const Bytes xmp = webp_chunk("XMP ", text("<a tiff:Orientation=\"8\"/>"));
  EXPECT_EQ(orientation_of(0x04, xmp), 8u);
  EXPECT_EQ(orientation_of(0x0c, xmp + six), 6u);
  EXPECT_EQ(orientation_of(0x08, xmp), 1u);
}

TEST(ImageHeader, RefusesWebpsByName) {
  const Bytes frame_chunk = webp_chunk("ANMF", Bytes(30));
  const Bytes control = webp_chunk("ANIM", Bytes(6));
  EXPECT_EQ(error_of(riff(vp8x(8, 8, 2) + control + frame_chunk + frame_chunk)),
            "animated WebP: 2 frames are not supported");
  EXPECT_EQ(error_of(riff(vp8x(8, 8, 2) + frame_chunk)),
            "animated WebP: 1 frame is not supported");
  EXPECT_EQ(error_of(riff(vp8x(1 << 24, 5, 0))),
            "WebP header says 16777216 x 5: a side is limited to 16384 pixels");
  EXPECT_EQ(error_of(riff(vp8(16000, 16000))),
            "WebP header says 16000 x 16000: an image is limited to 50000000 pixels");
  EXPECT_EQ(error_of(riff(vp8(0, 7))), "WebP header says 0 x 7");
  EXPECT_EQ(error_of(riff(vp8l(8, 8, 2))), "WebP has no lossless frame header");
  EXPECT_EQ(error_of(riff(webp_chunk("VP8 ", Bytes(9)))), "WebP frame header is truncated");
  EXPECT_EQ(error_of(riff(webp_chunk("VP8 ", Bytes(10)))), "WebP does not begin with a key frame");
  EXPECT_EQ(error_of(riff(webp_chunk("ALPH", Bytes(10)))),
            "WebP begins with neither VP8, VP8L nor VP8X");
  EXPECT_EQ(error_of(riff(vp8x(8, 8, 0) + text("EXIF") + le32(9))),
            "WebP chunk reaches past the end of the file");
  EXPECT_EQ(error_of(text("RIFF") + le32(4) + text("WEBP")), "WebP header is truncated");
  EXPECT_EQ(error_of(text("RIFF") + le32(4) + text("WEBP") + Bytes(9)),
            "WebP header says 12 bytes");
  Bytes cut = riff(vp8(8, 8));
  cut.pop_back();
  EXPECT_EQ(error_of(cut),
            "image file is truncated: WebP header says 30 bytes, there are 29");
}

// Every prefix and every single damaged byte: an answer, never a crash (run under sanitizers too).
TEST(ImageHeader, SurvivesAnyBytes) {
  const std::vector<Bytes> files = {
      kStart + segment(0xe1, exif(6)) + frame(30, 20) + kScan,
      png(30, 20) + chunk("eXIf", tiff(8)) +
          chunk("iTXt", text("XML:com.adobe.xmp")) + chunk("IEND", {}),
      riff(vp8(30, 20)), riff(vp8l(30, 20)),
      riff(vp8x(30, 20, 0x0c) + vp8(30, 20) + webp_chunk("EXIF", tiff(6))),
      riff(vp8x(30, 20, 0x02) + webp_chunk("ANMF", Bytes(20)))};
  for (const Bytes& file : files) {
    for (std::size_t end = 0; end <= file.size(); ++end) {
      const Bytes cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(end));
      (void)read_image_header(cut);
    }
    for (std::size_t at = 0; at < file.size(); ++at) {
      Bytes damaged = file;
      for (int value = 0; value < 256; ++value) {
        damaged[at] = low(static_cast<std::uint32_t>(value));
        (void)read_image_header(damaged);
      }
    }
  }
  const unsigned seed = std::random_device{}();
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20000; ++round) {
    Bytes noise(random() % 300);
    for (auto& byte : noise) byte = low(static_cast<std::uint32_t>(random()));
    (void)read_exif_orientation(noise);
    (void)read_xmp_orientation(noise);
    (void)read_image_header(kStart + Bytes{0xff} + noise);
    (void)read_image_header(png(3, 3) + noise);
  }
}

TEST(ExifOrientation, BothByteOrdersAndTypes) {
  const Bytes little = text(std::string_view("II*\0\10\0\0\0", 8)) + Bytes{2, 0} +
                       Bytes{1, 1, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0} +
                       Bytes{18, 1, 4, 0, 1, 0, 0, 0, 7, 0, 0, 0};
  EXPECT_EQ(read_exif_orientation(little), 7u);
  EXPECT_EQ(read_exif_orientation(std::span(little).first(little.size() - 1)), std::nullopt);
  EXPECT_EQ(read_exif_orientation(Bytes(8, 'M')), std::nullopt);
}

TEST(XmpOrientation, AttributeAndElement) {
  EXPECT_EQ(read_xmp_orientation(text("<a tiff:Orientation=\"6\"/>")), 6u);
  EXPECT_EQ(read_xmp_orientation(text("<tiff:Orientation>3</tiff:Orientation>")), 3u);
  EXPECT_EQ(read_xmp_orientation(text("tiff:Orientation='3'")), std::nullopt);
  EXPECT_EQ(read_xmp_orientation(text("tiff:Orientation=\"")), std::nullopt);
}

}  // namespace
}  // namespace facet
