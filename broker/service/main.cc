// facet-broker: clients, admission, dispatch; sole writer of ring table and ledger.
#include "broker/service/run_broker.h"

int main(int argc, char** argv) { return facet::run_broker(argc, argv); }
