#include "broker/supervisor/facetd.h"

int main(int argc, char** argv) { return facet::run_facetd(argc, argv); }
