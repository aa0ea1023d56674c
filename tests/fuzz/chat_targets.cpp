// Chat templates and conversations.
#include <ondol/generate/chat_template.h>

#include "fuzz/targets.h"

namespace ondol::fuzz {

void run_chat_template(std::string_view input) {
  accepts([&] {
    ChatTemplate chat{std::string(input)};
    chat.set("bos_token", "<s>");
    chat.set("eos_token", "</s>");
    const std::string once = chat.render({{"system", "Be brief."}, {"user", " Hi "}, {"assistant", "Hello"}});
    promise(chat.render({{"system", "Be brief."}, {"user", " Hi "}, {"assistant", "Hello"}}) == once,
            "a template renders to another text the second time");
  });
}

std::vector<std::string> chat_template_seeds() {
  return {
      "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n{{ m['content']|trim }}{{ eos_token }}\n{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}",
      "{%- set ns = namespace(found=false, n=0) -%}{%- for m in messages if m.role != 'system' -%}"
      "{%- set ns.n = ns.n + loop.index0 * 2 -%}{% if loop.last and ns.n > 1 %}{{ ns.n }}{% elif loop.first %}{{ "
      "m.content[::-1] }}"
      "{% else %}{{ m.content[1:-1] }}{% endif %}{%- else -%}none{%- endfor -%}",
      "{% macro row(name, value=1) %}{{ name }}={{ value|tojson }};{% endmacro %}{{ row('a', [1, 2.5, none]) }}"
      "{{ row('b') }}{% set block %}text{% endset %}{{ block|upper|length }}",
      "{{ messages|map(attribute='content')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length "
      "}}"
      "{{ range(3)|list }}{{ dict(a=1)|items|list }}{{ 'x' ~ 3 }}{{ 7 // 2 * 2 % 3 }}{{ 1 if not x is defined else 2 "
      "}}",
      "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{# comment #}"
      "{{ 'a b'.split(' ')[0].upper().strip() ~ {'k': (1, 2)}.k[1] }}{% generation %}{{ bos_token }}{% endgeneration "
      "%}",
      "{% for i in range(9) %}{% for j in range(9) %}{% if i == j %}{% continue %}{% endif %}{% if j > 5 %}{% break %}"
      "{% endif %}{{ i * j }}{% endfor %}{% endfor %}{{ strftime_now('%d %b %Y')|length }}",
      "{% set ns = namespace(a=[], b={}) %}{% for i in range(300) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a "
      "}}",
      "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}{% set ns.f = ns.items %}{{ ns|tojson(indent=4) }}",
      "{% set ns = namespace(items=[1]) %}{% set ns.x = [ns.items, ns.keys] %}{{ ns.x }}",
      "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}{{ (-9223372036854775807 - 1)|abs }}{{ 1e3|int }}"};
}

void run_conversation(std::string_view input) {
  static const ChatTemplate chat(
      "{% for m in messages %}{{ m.role }}: {{ m.content|tojson }}{% for c in m.tool_calls or [] %}{{ c.function.name "
      "}}"
      "{{ c.function.arguments|tojson(indent=2) }}{% endfor %}\n{% endfor %}{{ tools|length if tools else 0 }}");
  accepts([&] { chat.render_json(std::string(input)); });
}

std::vector<std::string> conversation_seeds() {
  return {
      R"({"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello \u00e9"}]})",
      R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}],)"
      R"("tools":[{"name":"f"}],"add_generation_prompt":false})",
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"tools":"abc"})", R"({"messages":3})"};
}

}  // namespace ondol::fuzz
