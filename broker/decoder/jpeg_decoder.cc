#include "broker/decoder/jpeg_decoder.h"

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>

#include <jerror.h>
#include <jpeglib.h>

#include "common/base/crash_point.h"

namespace facet {
namespace {

// A progressive image of more scans than this is made to burn time; encoders write 6 to 12.
constexpr int kMaxScans = 500;

struct ErrorExit {
  jpeg_error_mgr manager{};  // first: libjpeg hands back a pointer to it
  std::jmp_buf target{};
  bool is_truncated = false;
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void leave(j_common_ptr codec) {
  auto* exit = reinterpret_cast<ErrorExit*>(codec->err);
  if (exit->message[0] == 0) codec->err->format_message(codec, exit->message);
  std::longjmp(exit->target, 1);
}

// Warnings (damaged entropy data that libjpeg papers over) pass silently, as in Pillow.
void drop_message(j_common_ptr) {}

[[noreturn]] void leave_with(j_common_ptr codec, const char* message) {
  auto* exit = reinterpret_cast<ErrorExit*>(codec->err);
  std::snprintf(exit->message, sizeof exit->message, "%s", message);
  leave(codec);
}

void no_op(j_decompress_ptr) {}

boolean run_dry(j_decompress_ptr codec) {
  reinterpret_cast<ErrorExit*>(codec->err)->is_truncated = true;
  leave_with(reinterpret_cast<j_common_ptr>(codec), "image file is truncated");
}

void skip(j_decompress_ptr codec, long count) {
  if (count <= 0) return;
  const auto wanted = static_cast<std::size_t>(count);
  if (wanted > codec->src->bytes_in_buffer) run_dry(codec);
  codec->src->next_input_byte += wanted;
  codec->src->bytes_in_buffer -= wanted;
}

void watch_scans(j_common_ptr codec) {
  if (reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number > kMaxScans) {
    leave_with(codec, "JPEG has more than 500 scans");
  }
}

// Inverted CMYK, as Adobe writes it, to RGB with the rounding of Pillow.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::uint32_t width) {
  for (std::uint32_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int white = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * white + 128;
      const int value = white - (((product >> 8) + product) >> 8);
      rgb[c] = static_cast<std::uint8_t>(value < 0 ? 0 : value);
    }
  }
}

// Everything that setjmp must not skip over lives in the caller's frame.
struct JpegJob {
  jpeg_decompress_struct codec{};
  ErrorExit exit;
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::unique_ptr<std::uint8_t[]> line;  // as the codec writes it
  std::unique_ptr<std::uint8_t[]> rgb;
  bool has_all_rows = false;
  const char* refusal = nullptr;
};

void read_rows(JpegJob& job, const ImageInfo& info, OrientedRows& rows) {
  const bool is_cmyk = job.codec.out_color_space == JCS_CMYK;
  for (std::uint32_t y = 0; y < info.stored_height; ++y) {
    const bool in_place = !is_cmyk && rows.is_upright();
    JSAMPROW target = in_place ? rows.upright_row(y) : job.line.get();
    if (jpeg_read_scanlines(&job.codec, &target, 1) != 1) {
      leave_with(reinterpret_cast<j_common_ptr>(&job.codec), "image file is truncated");
    }
    if (is_cmyk) cmyk_to_rgb(job.line.get(), job.rgb.get(), info.stored_width);
    if (!in_place) rows.put(y, is_cmyk ? job.rgb.get() : job.line.get());
    FACET_CRASH_POINT("decoder.row");
  }
  job.has_all_rows = true;
}

// False: the image is refused or damaged; `job` says why. No object with a destructor in here.
bool run(JpegJob& job, const ImageInfo& info, OrientedRows& rows) {
  if (setjmp(job.exit.target) != 0) {
    // A file that ends right after its last row is whole; so does Pillow see it.
    return job.has_all_rows && job.exit.is_truncated;
  }
  jpeg_create_decompress(&job.codec);
  job.codec.src = &job.source;
  job.codec.progress = &job.progress;
  if (jpeg_read_header(&job.codec, TRUE) != JPEG_HEADER_OK) return false;
  if (job.codec.image_width != info.stored_width || job.codec.image_height != info.stored_height) {
    job.refusal = "JPEG has another size than its header says";
    return false;
  }
  // One component comes out as gray on all three channels; four as CMYK.
  job.codec.out_color_space = job.codec.num_components == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&job.codec);
  read_rows(job, info, rows);
  jpeg_finish_decompress(&job.codec);
  return true;
}

}  // namespace

Status decode_jpeg(std::span<const std::uint8_t> encoded, const ImageInfo& info,
                   OrientedRows& rows) {
  JpegJob job;
  job.codec.err = jpeg_std_error(&job.exit.manager);
  job.exit.manager.error_exit = leave;
  job.exit.manager.output_message = drop_message;
  job.source.next_input_byte = encoded.data();
  job.source.bytes_in_buffer = encoded.size();
  job.source.init_source = no_op;
  job.source.fill_input_buffer = run_dry;
  job.source.skip_input_data = skip;
  job.source.resync_to_restart = jpeg_resync_to_restart;
  job.source.term_source = no_op;
  job.progress.progress_monitor = watch_scans;
  job.line = std::make_unique<std::uint8_t[]>(std::size_t{4} * info.stored_width);
  job.rgb = std::make_unique<std::uint8_t[]>(std::size_t{3} * info.stored_width);
  const bool is_whole = run(job, info, rows);
  jpeg_destroy_decompress(&job.codec);
  if (is_whole) return {};
  const char* why = job.refusal != nullptr        ? job.refusal
                    : job.exit.message[0] != '\0' ? job.exit.message
                                                  : "JPEG cannot be read";
  return Error(Code::kInvalidArgument, why);
}

}  // namespace facet
