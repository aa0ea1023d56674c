// Speed of the tokenizer: encoding in MB/s with one and two threads, decoding, training in seconds; best of several
// rounds, files read beforehand.
//
//   tokenizer_bench encode TOKENIZER FILE… [--rounds N]
//   tokenizer_bench train VOCAB_SIZE FILE… [--type bpe|wordpiece|unigram] [--rounds N]
//
// Any tokenizer that load_tokenizer() takes can be measured: BERT's WordPiece and T5's or DeBERTa's Unigram as well.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>
#include <ondol/tokenizer/bpe_trainer.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/tokenizer/unigram_trainer.h>
#include <ondol/tokenizer/wordpiece_trainer.h>

namespace {

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw ondol::UsageError("cannot open file (" + path + ")");
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class Work>
double best_seconds(int rounds, const Work& work) {
  double best = 1e300;
  for (int round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// Documents of about 16 kB, cut behind newlines, for the batch measurement.
std::vector<std::string> cut_into_documents(const std::string& text) {
  std::vector<std::string> documents;
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', std::min(text.size(), begin + (size_t{1} << 14)));
    const size_t end = newline == text.npos ? text.size() : newline + 1;
    documents.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return documents;
}

void bench_encode(const std::string& path, const std::vector<std::string>& files, int rounds) {
  const double load = best_seconds(1, [&] { ondol::load_tokenizer(path); });
  const ondol::Tokenizer tokenizer = ondol::load_tokenizer(path);
  std::printf("load %.3f s\n", load);
  for (const std::string& file : files) {
    const std::string text = read_all(file);
    const auto documents = cut_into_documents(text);
    const double megabytes = static_cast<double>(text.size()) / 1e6;
    std::vector<int32_t> ids;
    double cold = 1e300;  // the caches of a new tokenizer are empty
    for (int round = 0; round < 3; ++round) {
      const ondol::Tokenizer fresh = ondol::load_tokenizer(path);
      cold = std::min(cold, best_seconds(1, [&] { fresh.encode(text); }));
    }
    const double whole = best_seconds(rounds, [&] { ids = tokenizer.encode(text); });
    std::printf("%s: %zu tokens; one text: cold %.1f MB/s, warm %.1f MB/s", file.c_str(), ids.size(), megabytes / cold,
                megabytes / whole);
    for (const int threads : {1, 2}) {
      ondol::set_num_threads(threads);
      const double batch = best_seconds(rounds, [&] { tokenizer.encode_batch(documents); });
      std::printf(", %d thread(s) %.1f MB/s", threads, megabytes / batch);
    }
    const double decode = best_seconds(rounds, [&] { tokenizer.decode(ids); });
    std::printf(", decode %.1f MB/s\n", megabytes / decode);
  }
}

void train(const std::string& type, int64_t vocab_size, const std::vector<std::string>& texts) {
  size_t next = 0;
  const auto next_text = [&] { return next < texts.size() ? std::optional(texts[next++]) : std::nullopt; };
  if (type == "wordpiece") {
    ondol::train_wordpiece(next_text, {.vocab_size = vocab_size});
  } else if (type == "unigram") {
    ondol::train_unigram(next_text, {.vocab_size = vocab_size});
  } else {
    ondol::train_bpe(texts, {.vocab_size = vocab_size});
  }
}

void bench_train(const std::string& type, int64_t vocab_size, const std::vector<std::string>& files, int rounds) {
  std::vector<std::string> texts;
  size_t bytes = 0;
  for (const std::string& file : files) {
    texts.push_back(read_all(file));
    bytes += texts.back().size();
  }
  for (const int threads : {1, 2}) {
    ondol::set_num_threads(threads);
    const double seconds = best_seconds(rounds, [&] { train(type, vocab_size, texts); });
    std::printf("train %s, %lld tokens on %.2f MB, %d thread(s): %.3f s\n", type.c_str(),
                static_cast<long long>(vocab_size), static_cast<double>(bytes) / 1e6, threads, seconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto take_option = [&](const char* name, const char* otherwise) -> std::string {
    const auto option = std::find(arguments.begin(), arguments.end(), name);
    if (option == arguments.end() || option + 1 == arguments.end()) return otherwise;
    const std::string value = *(option + 1);
    arguments.erase(option, option + 2);
    return value;
  };
  const int rounds = std::max(1, std::atoi(take_option("--rounds", "10").c_str()));
  const std::string type = take_option("--type", "bpe");
  if (arguments.size() < 3 || (arguments[0] != "encode" && arguments[0] != "train")) {
    std::fprintf(stderr, "usage: %s encode TOKENIZER FILE… | train VOCAB_SIZE FILE… [--type T]  [--rounds N]\n",
                 argv[0]);
    return 2;
  }
  const std::vector<std::string> files(arguments.begin() + 2, arguments.end());
  try {
    if (arguments[0] == "encode") {
      bench_encode(arguments[1], files, rounds);
    } else {
      bench_train(type, std::atoll(arguments[1].c_str()), files, rounds);
    }
  } catch (const ondol::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
