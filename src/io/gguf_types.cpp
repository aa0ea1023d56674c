// The tensor types of GGUF files: the ggml_type enumeration with the sizes of its blocks.
#include <ondol/base/error.h>
#include <ondol/io/gguf.h>

namespace ondol {

namespace {

constexpr GgufTensorType kTypes[] = {
    {0, "F32", 1, 4, DType::f32, {}},
    {1, "F16", 1, 2, DType::f16, {}},
    {2, "Q4_0", 32, 18, {}, QuantFormat::q4_0},
    {3, "Q4_1", 32, 20, {}, QuantFormat::q4_1},
    {6, "Q5_0", 32, 22, {}, QuantFormat::q5_0},
    {7, "Q5_1", 32, 24, {}, QuantFormat::q5_1},
    {8, "Q8_0", 32, 34, {}, QuantFormat::q8_0},
    {9, "Q8_1", 32, 40, {}, {}},
    {10, "Q2_K", 256, 84, {}, {}},
    {11, "Q3_K", 256, 110, {}, {}},
    {12, "Q4_K", 256, 144, {}, QuantFormat::q4_k},
    {13, "Q5_K", 256, 176, {}, QuantFormat::q5_k},
    {14, "Q6_K", 256, 210, {}, QuantFormat::q6_k},
    {15, "Q8_K", 256, 292, {}, {}},
    {16, "IQ2_XXS", 256, 66, {}, {}},
    {17, "IQ2_XS", 256, 74, {}, {}},
    {18, "IQ3_XXS", 256, 98, {}, {}},
    {19, "IQ1_S", 256, 50, {}, {}},
    {20, "IQ4_NL", 32, 18, {}, {}},
    {21, "IQ3_S", 256, 110, {}, {}},
    {22, "IQ2_S", 256, 82, {}, {}},
    {23, "IQ4_XS", 256, 136, {}, {}},
    {24, "I8", 1, 1, DType::i8, {}},
    {25, "I16", 1, 2, DType::i16, {}},
    {26, "I32", 1, 4, DType::i32, {}},
    {27, "I64", 1, 8, DType::i64, {}},
    {28, "F64", 1, 8, DType::f64, {}},
    {29, "IQ1_M", 256, 56, {}, {}},
    {30, "BF16", 1, 2, DType::bf16, {}},
    {34, "TQ1_0", 256, 54, {}, {}},
    {35, "TQ2_0", 256, 66, {}, {}},
    {39, "MXFP4", 32, 17, {}, {}},
};

constexpr const char* kValueTypeNames[] = {"u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "text", "array", "u64", "i64", "f64"};

}  // namespace

const GgufTensorType* find_gguf_type(uint32_t code) {
  for (const GgufTensorType& type : kTypes) {
    if (type.code == code) return &type;
  }
  return nullptr;
}

const GgufTensorType& gguf_type_of(DType dtype) {
  for (const GgufTensorType& type : kTypes) {
    if (type.dtype == dtype) return type;
  }
  throw_error("no GGUF type for dtype ", dtype_name(dtype));
}

const GgufTensorType& gguf_type_of(QuantFormat format) {
  for (const GgufTensorType& type : kTypes) {
    if (type.format == format) return type;
  }
  throw_error("no GGUF type for ", quant_format_name(format));
}

const char* gguf_value_type_name(GgufValueType type) { return kValueTypeNames[static_cast<uint32_t>(type)]; }

}  // namespace ondol
