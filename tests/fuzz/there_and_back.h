// Messages of the protocol, written and read again.
#pragma once

#include <string>
#include <variant>

#include "common/base/check.h"

namespace facet::fuzz {

// What was read, written anew with encode_message(), is read by `decode` as the same.
template <class Message, class Decode>
void check_there_and_back(const Message& message, const Decode& decode) {
  const auto encode = [](const auto& one) { return encode_message(one); };
  const std::string bytes = std::visit(encode, message);
  const auto again = decode(bytes);
  FACET_CHECK_MSG(again, "a message that was written cannot be read");
  FACET_CHECK(again->index() == message.index() && std::visit(encode, *again) == bytes);
}

}  // namespace facet::fuzz
