#include "broker/decoder/decoder_main.h"

int main(int argc, char** argv) { return facet::run_decoder(argc, argv); }
