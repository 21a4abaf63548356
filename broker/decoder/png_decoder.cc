#include "broker/decoder/png_decoder.h"

#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <vector>

namespace facet {
namespace {

// Everything that setjmp must not skip over lives in the caller's frame.
struct PngJob {
  std::span<const std::uint8_t> rest;  // not yet read
  png_structp codec = nullptr;
  png_infop header = nullptr;
  char message[160] = {};
  std::array<std::uint8_t, 768> palette{};  // RGB of every index
  std::vector<std::uint8_t> stored;         // the whole image when interlaced, else one row
  std::vector<std::uint8_t> rgb;            // one row
  std::size_t row_bytes = 0;
  std::uint8_t* row = nullptr;  // the one that libpng fills, of the last pass
};

// A pixel chunk that is cut off counts as one of the bytes that are there: libpng takes it in
// pieces of kilobytes, and would decode nothing of the last one.
void shorten_cut_chunk(png_bytep header, std::size_t left) {
  if (std::memcmp(header + 4, "IDAT", 4) == 0 && png_get_uint_32(header) > left) {
    png_save_uint_32(header, static_cast<png_uint_32>(left));
  }
}

void read_bytes(png_structp codec, png_bytep target, std::size_t count) {
  constexpr std::size_t kChunkHeader = 8;  // read at once: length, type
  auto* job = static_cast<PngJob*>(png_get_io_ptr(codec));
  if (count > job->rest.size()) png_error(codec, "image file is truncated");
  std::memcpy(target, job->rest.data(), count);
  job->rest = job->rest.subspan(count);
  if (count == kChunkHeader) shorten_cut_chunk(target, job->rest.size());
}

[[noreturn]] void leave(png_structp codec, png_const_charp message) {
  auto* job = static_cast<PngJob*>(png_get_error_ptr(codec));
  std::snprintf(job->message, sizeof job->message, "%s", message);
  png_longjmp(codec, 1);
}

// Damage behind the last row is only a warning to libpng; so does Pillow see it.
void drop_warning(png_structp, png_const_charp) {}

// An index past the palette's end is black, as in Pillow.
void read_palette(PngJob& job) {
  png_colorp colors = nullptr;
  int count = 0;
  if (png_get_PLTE(job.codec, job.header, &colors, &count) == 0) return;
  for (int i = 0; i < count && i < 256; ++i) {
    std::uint8_t* entry = job.palette.data() + std::size_t{3} * static_cast<std::size_t>(i);
    entry[0] = colors[i].red;
    entry[1] = colors[i].green;
    entry[2] = colors[i].blue;
  }
}

// Rows of 8-bit RGB, 8-bit gray, 16-bit gray or palette indices come out.
void set_transforms(PngJob& job, const ImageInfo& info) {
  png_set_packing(job.codec);
  png_set_strip_alpha(job.codec);
  const bool is_gray16 = info.is_16bit && info.channels == 1;
  if (!is_gray16) png_set_strip_16(job.codec);
  if (info.channels == 1 && !info.is_palette && !info.is_16bit) {
    png_set_expand_gray_1_2_4_to_8(job.codec);
  }
}

void row_to_rgb(const PngJob& job, const ImageInfo& info, const std::uint8_t* row,
                std::uint8_t* rgb) {
  const std::uint32_t width = info.stored_width;
  if (info.channels >= 3) {
    std::memcpy(rgb, row, std::size_t{3} * width);
    return;
  }
  for (std::uint32_t x = 0; x < width; ++x, rgb += 3) {
    if (info.is_palette) {
      std::memcpy(rgb, job.palette.data() + std::size_t{3} * row[x], 3);
      continue;
    }
    // 16-bit gray: big endian, and all above 255 is white.
    const bool is_wide = info.is_16bit && info.channels == 1;
    const std::uint8_t gray = !is_wide ? row[x] : row[2 * x] != 0 ? 255 : row[2 * x + 1];
    rgb[0] = rgb[1] = rgb[2] = gray;
  }
}

void read_rows(PngJob& job, const ImageInfo& info, OrientedRows& rows) {
  const int num_passes = png_set_interlace_handling(job.codec);
  png_read_update_info(job.codec, job.header);
  job.row_bytes = png_get_rowbytes(job.codec, job.header);
  job.stored.resize(job.row_bytes * (num_passes > 1 ? info.stored_height : 1));
  job.rgb.resize(std::size_t{3} * info.stored_width);
  for (int pass = 0; pass < num_passes; ++pass) {
    for (std::uint32_t y = 0; y < info.stored_height; ++y) {
      job.row = job.stored.data() + (num_passes > 1 ? job.row_bytes * y : 0);
      png_read_row(job.codec, job.row, nullptr);
      if (pass + 1 < num_passes) continue;
      row_to_rgb(job, info, job.row, job.rgb.data());
      rows.put(y, job.rgb.data());
    }
  }
}

// As Pillow: each chunk in front of the pixels must have its right checksum, also one that nobody
// reads. That of a pixel chunk (IDAT) is not looked at: the compressed stream carries its own.
void check_header_chunks(PngJob& job) {
  png_set_crc_action(job.codec, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_read_info(job.codec, job.header);  // up to the first IDAT
  png_set_crc_action(job.codec, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
}

void forget_metadata(PngJob& job, const ImageInfo& info) {
  png_set_keep_unknown_chunks(job.codec, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
  png_set_user_limits(job.codec, info.stored_width, info.stored_height);
  png_set_chunk_malloc_max(job.codec, 1 << 20);
  png_set_chunk_cache_max(job.codec, 16);
}

// With the last row libpng reads on to the end of the pixel chunks, and fails where they are cut
// off or damaged behind that row. The row is there by then.
bool has_last_row(const PngJob& job, const ImageInfo& info) {
  if (job.row == nullptr) return false;  // still in front of the pixels
  constexpr int kNumPasses = 7;
  return png_get_interlace_type(job.codec, job.header) == PNG_INTERLACE_NONE
             ? png_get_current_row_number(job.codec) >= info.stored_height
             : png_get_current_pass_number(job.codec) >= kNumPasses;
}

// False: damaged; `job.message` says how. No object with a destructor in here.
bool run(PngJob& job, const ImageInfo& info, OrientedRows& rows) {
  if (setjmp(png_jmpbuf(job.codec)) != 0) {
    if (!has_last_row(job, info)) return false;
    row_to_rgb(job, info, job.row, job.rgb.data());
    rows.put(info.stored_height - 1, job.rgb.data());
    return true;
  }
  png_set_read_fn(job.codec, &job, read_bytes);
  forget_metadata(job, info);
  check_header_chunks(job);
  if (png_get_image_width(job.codec, job.header) != info.stored_width ||
      png_get_image_height(job.codec, job.header) != info.stored_height) {
    png_error(job.codec, "PNG has another size than its header says");
  }
  if (info.is_palette) read_palette(job);
  set_transforms(job, info);
  read_rows(job, info, rows);
  return true;  // what follows the last row is not looked at: as in Pillow
}

}  // namespace

Status decode_png(std::span<const std::uint8_t> encoded, const ImageInfo& info,
                  OrientedRows& rows) {
  PngJob job;
  job.rest = encoded;
  job.codec = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, leave, drop_warning);
  if (job.codec != nullptr) job.header = png_create_info_struct(job.codec);
  const bool is_whole = job.header != nullptr && run(job, info, rows);
  png_destroy_read_struct(&job.codec, &job.header, nullptr);
  if (is_whole) return {};
  return Error(Code::kInvalidArgument, job.message[0] != '\0' ? job.message : "PNG cannot be read");
}

}  // namespace facet
