#include "io/sliced_file.h"

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 7 + values.size()) % 4096);
  return Tensor::from_vector(values, shape).to(dtype);
}

/// Tensors of several types, of which processes have all, rows of their own, blocks of columns, or every other run.
struct Subject {
  Tensor all = counting({700, 900}), rows = counting({301, 500}), columns = counting({64, 120}, DType::bf16),
         turned = counting({400, 900}), small = counting({13}), number = counting({}, DType::f64);

  NamedTensors whole() const {
    return {{"small", small},
            {"columns", columns},
            {"all", all},
            {"rows", rows},
            {"turned", turned.transpose(0, 1)},
            {"number", number},
            {"converted", rows.to(DType::bf16)}};
  }

  SlicedFile of(int rank, int ranks) const {
    SlicedFile file{"x.safetensors", {}, {{"format", "pt"}, {"layout", "7"}}};
    file.tensors.push_back(whole_tensor("small", small));
    TensorSlices blocks{"columns", columns.shape(), columns.dtype(), {}};
    for (int64_t column = rank * 10; column < 120; column += ranks * 10) {
      blocks.parts.push_back({.begin = column, .values = columns.narrow(1, column, 10), .stride = 120, .copies = 1});
    }
    file.tensors.push_back(blocks);
    file.tensors.push_back(whole_tensor("all", all));
    TensorSlices own{"rows", rows.shape(), rows.dtype(), {}};
    const int64_t chunk = 301 / ranks;
    own.parts.push_back({.begin = rank * chunk * 500, .values = rows.narrow(0, rank * chunk, chunk), .copies = 1});
    own.parts.push_back({.begin = ranks * chunk * 500, .values = rows.narrow(0, ranks * chunk, 301 - ranks * chunk)});
    file.tensors.push_back(own);
    file.tensors.push_back(whole_tensor("turned", turned.transpose(0, 1)));
    file.tensors.push_back(whole_tensor("number", number));
    own.name = "converted";
    own.dtype = DType::bf16;
    file.tensors.push_back(own);
    return file;
  }
};

class SlicedFiles : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Snapshot, SlicedFiles, ::testing::Bool());

TEST_P(SlicedFiles, HaveTheBytesThatOneProcessWrites) {
  const testing::TemporaryDirectory directory;
  const Subject subject;
  SafetensorsWriteOptions options;
  options.metadata = {{"format", "pt"}, {"layout", "7"}};
  write_safetensors(directory / "one", subject.whole(), options);
  const std::string expected = directory.read("one");
  for (const int ranks : {1, 2, 3, 4}) {
    std::filesystem::create_directory(directory / concat(ranks));
    std::optional<ChunkChecksums> sums;
    uint64_t most = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const Subject changing = subject;
      SlicedFileShare share(changing.of(rank, ranks), rank, ranks);
      if (GetParam()) share.snapshot();
      const ChunkChecksums own = std::move(share).write(directory / concat(ranks), size_t{1} << 20);
      most = std::max(most, own.bytes());
      if (sums) {
        sums->add(own);
      } else {
        sums = own;
      }
    }
    const std::string name = concat(ranks, "/x.safetensors");
    EXPECT_TRUE(directory.read(name) == expected) << ranks << " processes";
    EXPECT_EQ(sums->values(), file_checksums(directory / name, size_t{1} << 20));
    EXPECT_LT(most, expected.size() / static_cast<size_t>(ranks) + (size_t{1} << 21)) << "of " << ranks;
  }
}

TEST(SlicedFile, ACopyHoldsTheValuesOfItsMoment) {
  const testing::TemporaryDirectory directory;
  const Tensor values = counting({30, 40}), turned = counting({50, 60});
  const SlicedFile file{"x", {whole_tensor("a", values), whole_tensor("b", turned.transpose(0, 1))}};
  write_safetensors(directory / "before", whole_outputs(file));
  SlicedFileShare share(file, 0, 1);
  share.snapshot();
  values.fill(7.0);
  turned.fill(8.0);
  std::move(share).write(directory.path(), 4096);
  EXPECT_TRUE(directory.read("x") == directory.read("before"));
}

}  // namespace
}  // namespace ondol
