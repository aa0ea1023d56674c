// What encoders say about texts: embeddings, labels, filled masks, answers.
//
//   auto model = load_model("path/to/all-MiniLM-L6-v2");
//   const Tokenizer tokenizer = load_tokenizer("path/to/all-MiniLM-L6-v2");
//   const std::vector<TextInput> texts = {{"A man eats bread."}, {"Someone is eating."}};
//   Tensor vectors = embed(*model, tokenizer, texts, {.pooling = Pooling::mean, .normalize = true});   // (2, C) f32
//
// Texts run in batches of like lengths, without padding where the model can; answers come in the order of the texts and
// do not depend on what else is in a batch (but for the rounding of sums). Failures name the text by its `place`.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct TextInput {
  std::string text;
  std::optional<std::string> pair = {};
  std::string place = {};  // for messages: "texts.jsonl line 3"
};

struct PredictOptions {
  /// Longer texts are cut; otherwise a text that is longer than the model allows is an Error.
  bool truncate = false;
  /// Tokens of a text, those of the post-processor among them; 0: what model and tokenizer allow.
  int64_t max_tokens = 0;
  /// Tokens that run together; 0 chooses.
  int64_t batch_tokens = 0;
};

enum class Pooling { mean, cls, max, mean_sqrt_length };

struct EmbedOptions {
  Pooling pooling = Pooling::mean;  // of the last hidden states
  bool normalize = false;           // to length 1
  PredictOptions texts = {};
};
/// One row for each text: (texts, C) f32 on the host.
Tensor embed(Model& model, const Tokenizer& tokenizer, std::span<const TextInput> texts, const EmbedOptions& options);

/// What a sentence-transformers directory says (modules.json, the Pooling module's config.json, Normalize,
/// sentence_bert_config.json: longer texts are cut there). `model_directory` is where the Transformer module lies.
struct SentenceModules {
  std::string model_directory;
  EmbedOptions options;
};
/// Nothing when the directory has no modules.json. Throws UsageError on modules that are not known.
std::optional<SentenceModules> read_sentence_modules(const std::string& directory);

struct LabelScore {
  std::string label;
  double score = 0;  // probability; of a regression the value
};
/// The labels of each text, the most likely first: softmax, or a sigmoid for each where several may hold at once.
std::vector<std::vector<LabelScore>> classify(Model& model, const Tokenizer& tokenizer,
                                              std::span<const TextInput> texts, const PredictOptions& options = {});

struct TokenLabel {
  std::string token;  // as the vocabulary spells it
  LabelScore label;   // the most likely one
  TextRange range;    // bytes of the text
  bool in_pair = false;
};
/// One entry for each token of the text and its pair.
std::vector<std::vector<TokenLabel>> classify_tokens(Model& model, const Tokenizer& tokenizer,
                                                     std::span<const TextInput> texts,
                                                     const PredictOptions& options = {});

struct MaskFill {
  int64_t position = 0;  // of the mask among the tokens
  std::string token;     // its text
  int32_t id = 0;
  double score = 0;  // probability
};
/// For each mask token of a text, in order, the `count` most likely tokens. Throws Error for a text without one.
std::vector<std::vector<MaskFill>> fill_masks(Model& model, const Tokenizer& tokenizer,
                                              std::span<const TextInput> texts, int64_t count,
                                              const PredictOptions& options = {});

struct AnswerOptions {
  int64_t count = 1;
  int64_t max_answer_tokens = 15;
  int64_t max_question_tokens = 64;  // longer questions are cut
  int64_t stride = 128;              // tokens that neighbouring windows of a context share
  /// When set, a question may have no answer, an empty text: its score must be higher by more than this.
  std::optional<double> no_answer_threshold = {};
  PredictOptions texts = {};  // max_tokens: of a window, 384 at most unless it is given; nothing is cut off
};
struct Answer {
  std::string text;
  double score = 0;  // probability among the candidates: the 20 best spans (or `count`)
  TextRange range;   // bytes of the context
};
/// The best spans of the pair (the context) as answers to the text (the question), the best first, each text once. Long
/// contexts are read in windows.
std::vector<std::vector<Answer>> answer_questions(Model& model, const Tokenizer& tokenizer,
                                                  std::span<const TextInput> texts, const AnswerOptions& options = {});

}  // namespace ondol
