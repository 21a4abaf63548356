// Which inherited descriptor a child finds where. The supervisor dup2()s them to these numbers
// before exec; a child that lacks one says so by name and exits with kBadInvocation.
#pragma once

namespace facet {

// facet-broker
inline constexpr int kBrokerControlFd = 3;       // SOCK_SEQPACKET to the supervisor
inline constexpr int kBrokerRingFd = 4;          // ring, O_RDWR
inline constexpr int kBrokerLedgerFd = 5;        // ledger, O_RDWR
inline constexpr int kBrokerClientListenFd = 6;  // AF_UNIX stream listener for clients
inline constexpr int kBrokerWorkerListenFd = 7;  // AF_UNIX stream listener for workers
inline constexpr int kBrokerFdListenFd = 8;  // SOCK_SEQPACKET listener, clients: --fd-socket

// facet-decoder
inline constexpr int kDecoderJobFd = 3;  // SOCK_SEQPACKET to the broker
inline constexpr int kDecoderRingFd =
    4;  // ring, O_RDWR (each child maps only its own run writable)
inline constexpr int kDecoderLifelineFd =
    5;  // write end of a pipe: closed when decoder and children are gone

// facet-worker, facet-worker-echo
inline constexpr int kWorkerRingFd = 3;      // ring, O_RDONLY
inline constexpr int kWorkerPageFd = 4;      // WorkerPage, O_RDWR
inline constexpr int kWorkerLifelineFd = 5;  // read end: EOF = the supervisor is gone
inline constexpr int kWorkerLastWordsFd = 6;  // eventfd: last words are in the page
// Write ends of two pipes, one for each sentinel thread: EOF = the process is dying.
inline constexpr int kWorkerSentinelFds[] = {7, 8};
inline constexpr int kWorkerBrokerPageFd = 9;  // BrokerPage, O_RDONLY
inline constexpr int kWorkerMailboxFd = 10;    // common/shm/mailbox.h, O_RDWR
inline constexpr int kWorkerDoorbellFd = 11;   // eventfd: rung when a resting worker has mail

// Exit codes of every Facet process.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,
  kExitUsage = 2,
  kExitEngine = 70,      // engine bug or sticky device error: restart
  kExitHostMemory = 71,  // out of host memory
  kExitBadConfig = 72,   // configuration or model is wrong: restarting does not help
  kExitDeviceLost = 73,
};

}  // namespace facet
