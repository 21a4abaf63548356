// Failures of earlier runs that this run asks again.
#pragma once

#include "broker/cli/batch_items.h"
#include "broker/cli/prompt_options.h"
#include "broker/cli/result_file.h"

namespace facet {

enum class DropFailures {
  kChanged,  // the file's content is another now, or can be read at last
  kAll,      // whatever it is
};

// Takes the failures of just these images with just these questions and settings out of the file.
// Returns how many lines. kIo, kExhausted: the file is as it was.
Result<std::size_t> drop_failures(ResultFile& file, const BatchItems& items,
                                  const PromptOptions& options, const std::string& model,
                                  DropFailures which);

}  // namespace facet
