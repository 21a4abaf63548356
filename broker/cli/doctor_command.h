// `facet doctor`: what this host has, what a configuration needs of it, and what to do.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace facet {

struct DoctorOptions {
  std::string config;  // empty: the defaults
  std::string model;   // in the place of the configuration's
  bool json = false;
};

void add_doctor_command(CLI::App& app, DoctorOptions& options);

// Exit codes: 0 no errors, 1 errors.
int doctor_command(const DoctorOptions& options);

}  // namespace facet
