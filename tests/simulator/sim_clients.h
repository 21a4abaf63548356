// Simulated clients. Each checks all that it is told against what its requests must answer: I2, and
// that every request ends once, as it may end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/simulator/simulation.h"

namespace facet::sim {

class SimClients {
 public:
  explicit SimClients(Simulation& sim);

  void start();
  void calm_down();  // unblocks, starts nothing new
  bool can_take(ClientToken client) const;
  void send(ClientToken client, ClientNotice notice);  // broker -> client
  bool all_done() const;
  std::uint32_t num_received(const RequestId& id) const;
  std::string first_unfinished() const;
  std::string describe() const;

 private:
  enum class State { kSending, kRefused, kAccepted };

  struct Ask {
    RequestId id;
    RequestParams params;
    State state = State::kSending;
    std::uint32_t received = 0;
    std::string text;
    Nanos created = 0;
    Nanos accepted = 0;  // first seen
    Nanos heard = 0;
    bool cancel_sent = false;
    std::uint64_t epoch = 0;  // of the broker that accepted it
  };

  struct Client {
    ClientToken token = 0;
    bool is_blocked = false;
    Link up;
    Link down;
    std::map<RequestId, Ask> asks;
    // Ends that may still come over this connection: one for each time it was asked for.
    std::map<RequestId, std::uint32_t> ends_due;
  };

  void tick(std::size_t index);
  void begin(Client& client);
  RequestParams draw_params();
  void submit(Client& client, Ask& ask, bool with_images);
  void put_image(Client& client, const Ask& ask, std::uint32_t index);
  void to_broker(Client& client, Event event);
  void reconnect(Client& client);
  void receive(std::size_t index, ClientToken token, const ClientNotice& notice);
  void follow_again(Client& client, std::uint64_t epoch);
  void on(Client& client, Ask& ask, const Stored& stored);
  void on(Client& client, Ask& ask, const Accepted& accepted);
  void on(Client& client, Ask& ask, const Refused& refused);
  void on(Client& client, Ask& ask, const Tokens& tokens);
  void on(Client& client, Ask& ask, const Done& done);
  void check_error(const Ask& ask, const Done& done);
  void end(Client& client, Ask& ask, const char* how);
  Client* find(ClientToken token, std::size_t& index);

  Simulation& sim_;
  std::vector<Client> clients_;
  std::unordered_map<ClientToken, std::size_t> by_token_;
  ClientToken next_token_ = 1;
  std::map<std::string, std::uint64_t> ends_;
};

}  // namespace facet::sim
