// Products by libtorch, for CPUs with units for bf16: its matrix library knows them.
#pragma once

#include <cstdint>

#include "worker/model/weights.h"

namespace facet {

// Its matrix library compiles code for every number of rows and keeps it, a megabyte or so each:
// from here on at most so much of it as library_code_bytes() plans for. Before the first product.
void limit_library_code();

// out [rows, columns] = x [rows, depth] w^T + bias. Throws what libtorch throws.
template <class T>
void library_linear(const Linear<T>& linear, const T* x, T* out, std::int64_t rows);

}  // namespace facet
