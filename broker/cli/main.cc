#include "broker/cli/cli.h"

int main(int argc, char** argv) {
  return facet::run_cli(argc, argv);
}
