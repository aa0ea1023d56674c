// The metadata of a GGUF file (version 3), as much of it as the tokenizer tests need.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

namespace ondol {

class GgufMetadata {
 public:
  static nlohmann::json read(const std::string& path) {
    GgufMetadata reader(path);
    if (reader.number<uint32_t>() != 0x46554747u) throw std::runtime_error("not a GGUF file: " + path);
    reader.number<uint32_t>();
    reader.number<uint64_t>();
    nlohmann::json result;
    const auto count = reader.number<uint64_t>();
    for (uint64_t i = 0; i < count; ++i) {
      const std::string key = reader.text();
      result[key] = reader.value(reader.number<uint32_t>());
    }
    return result;
  }

 private:
  explicit GgufMetadata(const std::string& path) : in_(path, std::ios::binary) {}

  template <class T>
  T number() {
    T result{};
    in_.read(reinterpret_cast<char*>(&result), sizeof(T));
    if (!in_) throw std::runtime_error("GGUF file ends early");
    return result;
  }

  std::string text() {
    std::string result(number<uint64_t>(), '\0');
    in_.read(result.data(), static_cast<std::streamsize>(result.size()));
    return result;
  }

  nlohmann::json value(uint32_t type) {
    switch (type) {
      case 0:
        return number<uint8_t>();
      case 4:
        return number<uint32_t>();
      case 5:
        return number<int32_t>();
      case 6:
        return number<float>();
      case 7:
        return number<uint8_t>() != 0;
      case 8:
        return text();
      case 9: {
        const auto element = number<uint32_t>();
        const auto count = number<uint64_t>();
        nlohmann::json list = nlohmann::json::array();
        for (uint64_t i = 0; i < count; ++i) list.push_back(value(element));
        return list;
      }
      default:
        throw std::runtime_error("GGUF value type " + std::to_string(type));
    }
  }

  std::ifstream in_;
};

}  // namespace ondol
