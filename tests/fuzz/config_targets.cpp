// JSON documents, config.json of models and configurations of training runs.
#include <ondol/train/config.h>

#include "base/json_reader.h"
#include "fuzz/targets.h"
#include "models/family.h"

namespace ondol::fuzz {

void run_json(std::string_view input) {
  accepts([&] {
    const Json document = parse_json(input, "input.json");
    promise(parse_json(document.dump(), "written.json") == document, "a written document changes when it is read");
  });
}

std::vector<std::string> json_seeds() {
  std::string deep(63, '[');
  deep += std::string(63, ']');
  return {R"({"a":[1,-2,3.5e10,true,false,null,"text \u00e9 \ud83d\ude00"],"b":{"c":{}}})",
          "\xef\xbb\xbf[18446744073709551615]",
          deep,
          R"({"k":1,"k":2})",
          "\"" + std::string(200, 'x') + "\xc3\xa9\"",
          "[1e999]"};
}

void run_model_config(std::string_view input) {
  accepts([&] {
    const Json document = parse_json(input, "config.json");
    const JsonReader reader(document, "config.json");
    const std::unique_ptr<FamilyModel> model = find_family(reader)(reader);
    promise(!model->weights().empty(), "a model without weights");
    const std::string written = model->config_json();
    const Json again = parse_json(written, "written.json");
    const JsonReader again_reader(again, "written.json");
    const bool read_again = accepts([&] {
      promise(find_family(again_reader)(again_reader)->config_json() == written, "a written config.json changes");
    });
    promise(read_again, "a written config.json is refused");
  });
}

std::vector<std::string> model_config_seeds() {
  return {
      R"({"model_type":"llama","vocab_size":100,"hidden_size":32,"intermediate_size":64,"num_hidden_layers":2,)"
      R"("num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":64,"rms_norm_eps":1e-5,)"
      R"("rope_theta":10000.0,"rope_scaling":null,"bos_token_id":1,"eos_token_id":[2,3],"tie_word_embeddings":true})",
      R"({"model_type":"llama","hidden_size":16,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":50,)"
      R"("intermediate_size":8,"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8.0,)"
      R"("low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32},"attention_bias":true})",
      R"({"model_type":"llama","hidden_size":16,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":50,)"
      R"("rope_scaling":{"type":"linear","factor":2.0},"hidden_act":"gelu","head_dim":12})",
      R"({"model_type":"bert","architectures":["BertForSequenceClassification"],"vocab_size":60,"hidden_size":12,)"
      R"("num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":16,"max_position_embeddings":20,)"
      R"("type_vocab_size":2,"id2label":{"0":"no","1":"yes"},"problem_type":"multi_label_classification",)"
      R"("classifier_dropout":0.1,"pad_token_id":0})",
      R"({"model_type":"roberta","architectures":["RobertaForMaskedLM"],"vocab_size":60,"hidden_size":12,)"
      R"("num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":16,"max_position_embeddings":20,)"
      R"("type_vocab_size":1,"pad_token_id":1,"tie_word_embeddings":false})",
      R"({"model_type":"electra","architectures":["ElectraForPreTraining"],"vocab_size":60,"hidden_size":12,)"
      R"("embedding_size":6,"num_hidden_layers":1,"num_attention_heads":2,"num_labels":3})",
      R"({"model_type":"distilbert","architectures":["DistilBertForQuestionAnswering"],"vocab_size":60,"dim":12,)"
      R"("n_layers":1,"n_heads":2,"hidden_dim":16,"qa_dropout":0.1,"max_position_embeddings":20})",
      R"({"model_type":"gpt2","vocab_size":100,"n_positions":32,"n_embd":16,"n_layer":2,"n_head":2,"n_inner":null,)"
      R"("activation_function":"gelu_new","resid_pdrop":0.1,"embd_pdrop":0.1,"attn_pdrop":0.1,)"
      R"("layer_norm_epsilon":1e-5,"bos_token_id":99,"eos_token_id":99})"};
}

void run_train_config(std::string_view input) {
  accepts([&] {
    const TrainConfig config = TrainConfig::from_json(std::string(input), {}, "train.json");
    const std::string resolved = config.resolved_json();
    const bool read_again = accepts([&] {
      promise(TrainConfig::from_json(resolved, {}, "resolved.json").resolved_json() == resolved,
              "a resolved configuration changes when it is read");
    });
    promise(read_again, "a resolved configuration is refused");
  });
}

std::vector<std::string> train_config_seeds() {
  return {
      R"({"model":{"config":"m.json"},"data":{"train":[{"path":"a.txt"}],"sequence_length":16},)"
      R"("train":{"steps":10,"batch_size":4}})",
      R"({"model":{"from":"dir"},"tokenizer":{"path":"t"},"data":{"train":[{"path":"a*.jsonl","weight":0.25},)"
      R"({"path":"b.bin","weight":1}],"validation":[{"path":"v.txt"}],"sequence_length":256,"packing":true,)"
      R"("shuffle":false,"shuffle_seed":7,"document_separator":"line","text_field":"body"},"objective":{"type":"clm"},)"
      R"("optimizer":{"type":"adamw","learning_rate":3e-4,"betas":[0.9,0.95],"eps":1e-8,"weight_decay":0.1,)"
      R"("decay":"matrices"},"schedule":{"type":"wsd","warmup_steps":2,"decay_fraction":0.2,"decay_shape":"sqrt"},)"
      R"("train":{"steps":20,"batch_size":32,"micro_batch_size":8,"dtype":"bf16","on_non_finite":"skip"},)"
      R"("evaluation":{"every":5,"batches":2},"checkpoint":{"every":5,"keep":0},"logging":{"every":2}})",
      R"({"model":{"config":"m.json"},"data":{"train":[{"path":"r.safetensors"}]},"objective":{"type":"tensors"},)"
      R"("optimizer":{"type":"sgd","momentum":0.9,"nesterov":true},"train":{"steps":3,"batch_size":2},)"
      R"("stages":[{"train":{"steps":2}},{"train":{"steps":1,"batch_size":1,"micro_batch_size":1},)"
      R"("schedule":{"type":"inverse_sqrt","timescale":5}}]})"};
}

}  // namespace ondol::fuzz
