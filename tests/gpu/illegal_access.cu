// Writes where nothing is mapped: the context that runs it is broken for good.
extern "C" __global__ void facet_illegal_access(int* nowhere) { *nowhere = 1; }
