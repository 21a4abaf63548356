// Descriptors that facet-broker needs beside those of its clients. facetd refuses to start where
// there are fewer: without one for a connection, ZeroMQ ends the broker.
#pragma once

namespace facet {

// Connections on the workers' socket: each worker has one, and one more while it is replaced.
inline constexpr int kMaxWorkerConnections = 256;
// Connections of clients that hand images over as descriptors. They are for moments, so one that is
// idle gives way to the next.
inline constexpr int kMaxFdConnections = 64;
// Those of workers, ZeroMQ's own, logs, the ring.
inline constexpr int kReservedDescriptors = kMaxWorkerConnections + kMaxFdConnections + 128;

}  // namespace facet
