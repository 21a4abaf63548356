// A memory plan for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "worker/engine/memory_plan.h"

namespace facet {

nlohmann::json plan_json(const MemoryPlan& plan);
std::string plan_text(const MemoryPlan& plan);  // a table

}  // namespace facet
