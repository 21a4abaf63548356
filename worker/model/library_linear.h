// Products by libtorch, for CPUs with units for bf16: its matrix library knows them.
#pragma once

#include <cstdint>

#include "worker/model/weights.h"

namespace facet {

// out [rows, columns] = x [rows, depth] w^T + bias. Throws what libtorch throws.
template <class T>
void library_linear(const Linear<T>& linear, const T* x, T* out, std::int64_t rows);

}  // namespace facet
