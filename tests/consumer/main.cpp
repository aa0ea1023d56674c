#include <iostream>

#include <ondol/ondol.h>

int main(int, char** argv) {
  ondol::save_model(*ondol::create_model(argv[1], ondol::DType::f32, {}, 1), argv[2]);
  const auto model = ondol::load_model(argv[2], {.device = "cpu"});
  const auto results = ondol::generate_ids(*model, {{1, 2, 3}}, {.max_new_tokens = 5, .ignore_eos = true});
  std::cout << model->info().architecture << " " << results[0].tokens.size() << "\n";
}
