// `--tokenize DIR`: the tokenizer of a model without the model.
#pragma once

#include <string>

namespace facet {

// Reads all of standard input as one text and prints its token ids, blanks between, on one line.
// Returns the process's exit code; what is wrong goes to standard error.
int tokenize_standard_input(const std::string& model_dir);

}  // namespace facet
