// Everything that programs built on ondol need.
//
//   auto model = ondol::load_model("path/to/model", {.device = "auto", .dtype = ondol::DType::bf16});
//   auto tokenizer = ondol::load_tokenizer("path/to/model");
//   auto text = ondol::generate(*model, tokenizer, "Once upon a time", {.max_new_tokens = 64});
//   ondol::Trainer(ondol::TrainConfig::from_file("configs/train/llama-15m.json")).run();
//
// Build with find_package(ondol) and target_link_libraries(app ondol::ondol). Failures are ondol::Error exceptions.
#pragma once

#include <ondol/base/build_info.h>
#include <ondol/base/error.h>
#include <ondol/base/parallel.h>
#include <ondol/data/clean.h>
#include <ondol/data/data_loader.h>
#include <ondol/data/language.h>
#include <ondol/data/token_file.h>
#include <ondol/generate/beam_search.h>
#include <ondol/generate/chat_template.h>
#include <ondol/generate/generate.h>
#include <ondol/generate/perplexity.h>
#include <ondol/io/model_weights.h>
#include <ondol/io/safetensors.h>
#include <ondol/metrics/classification.h>
#include <ondol/metrics/entities.h>
#include <ondol/metrics/question_answering.h>
#include <ondol/metrics/summarization.h>
#include <ondol/metrics/translation.h>
#include <ondol/models/model.h>
#include <ondol/predict/predict.h>
#include <ondol/tokenizer/bpe_trainer.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/tokenizer/unigram_trainer.h>
#include <ondol/tokenizer/wordpiece_trainer.h>
#include <ondol/train/text_encoder.h>
#include <ondol/train/trainer.h>
