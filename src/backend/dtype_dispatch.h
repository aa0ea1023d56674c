// From a DType that is known when the program runs to the C++ type that it names.
//
//   dispatch_dtype(args.out_dtype, [&]<class Out>(std::type_identity<Out>) { copy_nest<In, Out>(args); });
//   for_each_dtype([&]<class T>(std::type_identity<T>, DType dtype) { table.fill.set(dtype, fill<T>); });
#pragma once

#include <cstdint>
#include <type_traits>

#include <ondol/base/dtype.h>

namespace ondol {

/// Calls function(std::type_identity<T>(), dtype) for every dtype.
template <class Function>
constexpr void for_each_dtype(const Function& function) {
  function(std::type_identity<float>(), DType::f32);
  function(std::type_identity<bfloat16>(), DType::bf16);
  function(std::type_identity<float16>(), DType::f16);
  function(std::type_identity<double>(), DType::f64);
  function(std::type_identity<int64_t>(), DType::i64);
  function(std::type_identity<int32_t>(), DType::i32);
  function(std::type_identity<int16_t>(), DType::i16);
  function(std::type_identity<int8_t>(), DType::i8);
  function(std::type_identity<uint8_t>(), DType::u8);
  function(std::type_identity<bool>(), DType::boolean);
}

/// Calls function(std::type_identity<T>()) for the T of `dtype`.
template <class Function>
constexpr void dispatch_dtype(DType dtype, const Function& function) {
  for_each_dtype([&](auto type, DType of) {
    if (of == dtype) function(type);
  });
}

}  // namespace ondol
