// The plain course of things: submit, images, stream, cancel, status.
#include <random>

#include "tests/unit/client/fake_broker.h"

namespace facet {
namespace {

TEST(Client, StreamsAnAnswer) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  EXPECT_EQ(got.as<GenerateRequest>().id, id);
  EXPECT_EQ(got.as<GenerateRequest>().messages[0].content[0].text, "what?");
  pair.broker.send(got.peer, Accepted{id, 3, 0});
  pair.broker.send(got.peer, Tokens{id, 0, {5, 6}, "a"});
  pair.broker.send(got.peer, Keepalive{});
  pair.broker.send(got.peer, Tokens{id, 2, {7}, "b"});
  Done done;
  done.id = id;
  done.text = "c";
  pair.broker.send(got.peer, done);
  EXPECT_EQ(pair.next_event<Accepted>().queue_position, 3u);
  EXPECT_EQ(pair.next_event<Tokens>().token_ids, (std::vector<std::int32_t>{5, 6}));
  EXPECT_EQ(pair.next_event<Tokens>().text, "b");
  EXPECT_EQ(pair.client.num_unfinished(), 0u);
  EXPECT_EQ(pair.next_event<Done>().text, "c");
}

TEST(Client, SendsImagesInChunksAheadOfTheRequest) {
  std::string large(2'500'000, '\0');
  std::mt19937 random(7);
  for (char& c : large) c = static_cast<char>(random());
  const TempDir dir;
  Pair pair;
  const std::string path = dir.file("large.png", large);
  const RequestId id = *pair.client.submit(
      ask(3), {image_bytes("small"), {path, nullptr}, image_bytes(std::string(1 << 20, 'x'))});
  std::vector<std::string> images(3);
  while (true) {
    const auto got = pair.next();
    if (got.is<GenerateRequest>()) {
      EXPECT_EQ(got.as<GenerateRequest>().num_images, 3u);
      break;
    }
    const PutChunk& put = got.as<PutChunk>();
    EXPECT_EQ(put.id, id);
    EXPECT_EQ(put.offset, images.at(put.image).size());
    EXPECT_EQ(put.total_bytes, put.image == 0 ? 5u : put.image == 1 ? large.size() : 1u << 20);
    images[put.image] += got.chunk;
  }
  EXPECT_EQ(images[0], "small");
  EXPECT_TRUE(images[1] == large);
  EXPECT_EQ(images[2].size(), 1u << 20);
}

TEST(Client, ManyRequestsAtOnceEachGetTheirOwn) {
  Pair pair;
  std::map<RequestId, int> numbers;
  for (int i = 0; i < 300; ++i) {
    const std::string image = "image " + std::to_string(i);
    numbers[*pair.client.submit(ask(1, std::to_string(i)), {image_bytes(image)})] = i;
  }
  std::map<RequestId, std::string> images;
  for (int done = 0; done < 300;) {
    const auto got = pair.next();
    if (got.is<PutChunk>()) {
      images[got.as<PutChunk>().id] += got.chunk;
      continue;
    }
    const auto& request = got.as<GenerateRequest>();
    EXPECT_EQ(images[request.id], "image " + request.messages[0].content[1].text);
    Done end;
    end.id = request.id;
    end.text = request.messages[0].content[1].text;
    pair.broker.send(got.peer, end);
    ++done;
  }
  for (int i = 0; i < 300; ++i) {
    const Done done = pair.next_event<Done>();
    EXPECT_EQ(std::to_string(numbers.at(done.id)), done.text);
  }
}

TEST(Client, CancelsWhatTheDaemonHas) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  pair.client.cancel(id);
  pair.client.cancel(id);
  EXPECT_EQ(pair.next().as<CancelRequest>().id, id);
  Done done;
  done.id = id;
  done.reason = FinishReason::kCancelled;
  pair.broker.send(got.peer, done);
  EXPECT_EQ(pair.next_event<Done>().reason, FinishReason::kCancelled);
}

TEST(Client, CancelsWhatWasNotSentWithoutAskingAnybody) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  pair.client.cancel(id);
  EXPECT_EQ(pair.next_event<Done>().reason, FinishReason::kCancelled);
  EXPECT_EQ(pair.client.num_unfinished(), 0u);
  pair.client.cancel(id);  // ended already: nothing
  pair.turn();
  EXPECT_TRUE(pair.events.empty());
}

TEST(Client, AsksForTheStatusAndKeepsEvents) {
  Pair pair;
  const RequestId id = *pair.client.submit(ask());
  const auto got = pair.next();
  pair.broker.send(got.peer, Tokens{id, 0, {1}, "x"});
  pair.broker.send(got.peer, StatusReply{"{\"pid\":1}"});
  const Nanos start = monotonic_now();
  const auto status = pair.client.status(20 * kSecond);
  EXPECT_LT(monotonic_now() - start, 10 * kSecond);  // not the whole timeout
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(*status, "{\"pid\":1}");
  EXPECT_EQ(pair.next_event<Tokens>().text, "x");
}

TEST(Client, ResumesAnAnswerOfAnEarlierLife) {
  Pair pair;
  GenerateRequest request = ask();
  request.id = RequestId::random();
  request.next_index = 7;
  ASSERT_TRUE(pair.client.submit(request));
  const auto got = pair.next();
  EXPECT_EQ(got.as<GenerateRequest>().next_index, 7u);
  pair.broker.send(got.peer, Tokens{request.id, 7, {1}, "x"});
  EXPECT_EQ(pair.next_event<Tokens>().index, 7u);
}

TEST(Client, RefusesWhatTheBrokerWouldRefuse) {
  Pair pair;
  GenerateRequest request = ask();
  request.sampling.top_p = 7;
  const auto refused = pair.client.submit(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "params.top_p: 7 is not between 1e-09 and 1");
  EXPECT_FALSE(pair.client.submit(ask(0, std::string(5 << 20, 'x'))));
  request = ask();
  request.id = RequestId::random();
  EXPECT_TRUE(pair.client.submit(request));
  EXPECT_FALSE(pair.client.submit(request));
}

}  // namespace
}  // namespace facet
