#include "train/batch_text.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace ondol {

namespace {

/// One row of a token tensor, spelled token by token.
class Speller {
 public:
  explicit Speller(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {
    if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  }

  /// What this token adds to the text of those before it.
  std::string next(int32_t id) {
    if (!decoder_ || id < 0 || id >= tokenizer_->vocab_size()) return concat(first_++ == 0 ? "" : " ", id);
    return escaped(decoder_->push(id));
  }
  /// A token by itself.
  std::string alone(int32_t id) const {
    if (!decoder_ || id < 0 || id >= tokenizer_->vocab_size()) return concat(id);
    return escaped(tokenizer_->decode(std::vector<int32_t>{id}));
  }

 private:
  /// Line breaks would look like the end of the sample.
  static std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '\n') {
        out += "\\n";
      } else if (c == '\r') {
        out += "\\r";
      } else {
        out += c;
      }
    }
    return out;
  }

  const Tokenizer* tokenizer_;
  std::optional<StreamDecoder> decoder_;
  int64_t first_ = 0;
};

std::vector<int32_t> row_of(const Tensor& tensor, int64_t row) {
  return tensor.defined() ? tensor.select(0, row).to_vector<int32_t>() : std::vector<int32_t>();
}

class Writer {
 public:
  Writer(const Batch& batch, const Model& model, const Tokenizer* tokenizer)
      : batch_(batch), info_(model.info()), tokenizer_(tokenizer) {
    const bool per_token =
        batch.labels.defined() && batch.labels.dtype() == DType::i32 && batch.labels.shape() == batch.input_ids.shape();
    token_labels_ = per_token && info_.head != Head::sequence_to_sequence;
  }

  std::string sample(int64_t row) const {
    std::string out = concat("sample ", batch_.first_sample + row, "\n  input   ", input(row), "\n");
    if (batch_.labels.defined() && !token_labels_) out += concat("  labels  ", labels(row), "\n");
    for (const auto& [name, tensor] : batch_.others) {
      if (tensor.ndim() == 1) out += concat("  ", name, "  ", row_value(tensor, row), "\n");
    }
    return out;
  }

 private:
  std::string input(int64_t row) const {
    const std::vector<int32_t> ids = row_of(batch_.input_ids, row);
    const std::vector<int32_t> mask = row_of(batch_.attention_mask, row), documents = row_of(batch_.document_ids, row);
    const std::vector<int32_t> labels = token_labels_ ? row_of(batch_.labels, row) : std::vector<int32_t>();
    const std::vector<bool> marked = targets(row, ids, labels);
    const bool all = std::find(marked.begin() + 1, marked.end(), false) == marked.end();
    const bool runs = info_.head == Head::causal_language_model || info_.head == Head::question_answering;
    Speller speller(tokenizer_);
    std::string out;
    int64_t hidden = 0;
    bool open = false;
    for (size_t i = 0; i < ids.size(); ++i) {
      if ((!mask.empty() && mask[i] == 0) || (!documents.empty() && documents[i] < 0)) {
        ++hidden;
        continue;
      }
      const bool mark = marked[i] && !(runs && all);
      const bool begins = !documents.empty() && i > 0 && documents[i] != documents[i - 1];
      if (open && (!mark || !runs || begins)) {
        out += '}';
        open = false;
      }
      if (begins) out += " |";
      std::string text = speller.next(ids[i]);
      if (mark && !open) {
        if (text.starts_with(' ')) out += ' ';
        out += '{';
        if (text.starts_with(' ')) text.erase(0, 1);
        open = true;
      }
      out += text;
      if (mark && !runs) out += wanted(labels[i], ids[i], speller);
    }
    if (open) out += '}';
    if (hidden > 0) out += concat("  (", hidden, " of padding)");
    return out;
  }

  /// Which tokens carry a target; of causal models: are one.
  std::vector<bool> targets(int64_t row, const std::vector<int32_t>& ids, const std::vector<int32_t>& labels) const {
    std::vector<bool> marked(ids.size() + 1, false);
    const size_t shift = batch_.labels_shifted ? 1 : 0;
    for (size_t i = 0; i < labels.size(); ++i) {
      const bool unremarkable = info_.head == Head::replaced_token_detection && labels[i] == 0;
      marked[i + shift] = labels[i] != kIgnoreIndex && !unremarkable;
    }
    const Tensor *start = batch_.find("start_positions"), *end = batch_.find("end_positions");
    if (start != nullptr && end != nullptr) {
      const int32_t first = start->to_vector<int32_t>()[static_cast<size_t>(row)];
      const int32_t last = end->to_vector<int32_t>()[static_cast<size_t>(row)];
      for (int32_t i = std::max(first, 0); i <= last && i < static_cast<int32_t>(ids.size()); ++i) {
        marked[static_cast<size_t>(i)] = true;
      }
    }
    marked.resize(ids.size());
    return marked;
  }

  /// Behind a marked token: what the model is to say of it.
  std::string wanted(int32_t label, int32_t id, const Speller& speller) const {
    if (info_.head == Head::replaced_token_detection) return ": replaced";
    if (info_.head == Head::token_classification) {
      const auto known = static_cast<size_t>(label) < info_.labels.size();
      return ": " + (known ? info_.labels[static_cast<size_t>(label)] : concat(label));
    }
    return label == id ? "" : " -> " + speller.alone(label);
  }

  std::string labels(int64_t row) const {
    if (batch_.labels.dtype() == DType::f32) return row_value(batch_.labels, row);
    std::vector<int32_t> values =
        batch_.labels.ndim() == 1 ? std::vector<int32_t>{batch_.labels.to_vector<int32_t>()[static_cast<size_t>(row)]}
                                  : row_of(batch_.labels, row);
    if (info_.head == Head::sequence_classification) {
      const auto label = static_cast<size_t>(values.front());
      return label < info_.labels.size() ? info_.labels[label] : concat(values.front());
    }
    Speller speller(tokenizer_);
    std::string out;
    for (const int32_t id : values) {
      if (id != kIgnoreIndex) out += speller.next(id);
    }
    return out;
  }

  static std::string row_value(const Tensor& tensor, int64_t row) {
    std::string out;
    for (const double value : tensor.narrow(0, row, 1).to_vector<double>())
      out += concat(out.empty() ? "" : " ", value);
    return out;
  }

  const Batch& batch_;
  const ModelInfo& info_;
  const Tokenizer* tokenizer_;
  bool token_labels_ = false;
};

}  // namespace

std::string batch_text(const Batch& prepared, const Model& model, const Tokenizer* tokenizer) {
  const Writer writer(prepared, model, tokenizer);
  std::string out;
  for (int64_t row = 0; row < prepared.size(); ++row) out += writer.sample(row);
  return out;
}

}  // namespace ondol
