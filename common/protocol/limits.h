// Hard limits of the wire, each with its reason. What the configuration may lower lies in
// common/config; nothing may raise these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facet {

inline constexpr std::size_t kMaxChunkBytes = 1 << 20;  // one image chunk: bounds a frame's memory
inline constexpr std::size_t kMaxMapBytes = 4 << 20;    // frame 0: text of a long conversation
inline constexpr std::size_t kMaxFrames = 2;            // map and chunk
inline constexpr std::size_t kMaxMsgpackDepth = 16;     // the schema needs 6
inline constexpr std::size_t kMaxMsgpackArray = 1 << 17;  // committed ids of the longest answer
inline constexpr std::size_t kMaxMsgpackMap = 64;         // the schema needs 16 keys
inline constexpr std::size_t kMaxItems = 1 << 18;  // values in one map: parsed, 24 bytes each
inline constexpr std::size_t kMaxWorkerMapBytes = 8 << 20;  // a client's map and committed tokens
inline constexpr std::size_t kMaxWorkerItems = 1 << 19;     // the same, in values
inline constexpr std::size_t kMaxMessages = 1024;           // turns of one conversation
inline constexpr std::size_t kMaxParts = 1024;              // content parts of one message
inline constexpr std::size_t kMaxImages = 64;               // images of one request
inline constexpr std::size_t kMaxStops = 16;                // stop strings of one request
inline constexpr std::size_t kMaxStopBytes = 256;           // bytes of one stop string
inline constexpr std::size_t kMaxRoleBytes = 32;
inline constexpr std::size_t kMaxErrorBytes = 1024;   // text of one error message
inline constexpr std::size_t kMaxNameBytes = 256;     // a model's name or family
inline constexpr std::uint32_t kMaxLogprobs = 20;     // alternatives of one token
inline constexpr double kMaxTemperature = 100.0;      // beyond this all tokens are equally likely
inline constexpr double kMinTopP = 1e-9;              // below this its sum is lost in rounding
inline constexpr double kMinPenalty = 1e-3;           // of repetition_penalty, unless it is 0
inline constexpr double kMaxPenalty = 100.0;          // of repetition_penalty
inline constexpr double kMaxAdditivePenalty = 100.0;  // presence and frequency, either sign
inline constexpr std::uint64_t kMaxImageBytes = 1ull << 30;  // encoded bytes of one image

}  // namespace facet
