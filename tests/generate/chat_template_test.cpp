// Chat templates: every expected text was made with jinja2 3.1 (trim_blocks, lstrip_blocks, loopcontrols).
#include <ondol/base/error.h>
#include <ondol/generate/chat_template.h>

#include <gtest/gtest.h>

#include "base/json_reader.h"
#include "support/test_data.h"

namespace ondol {
namespace {

constexpr const char* kVariables =
    R"~({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":" Hi "},{"role":"assistant","content":"Hello"},{"role":"user","content":"Bye"}],"x":3,"text":"a-b-c","empty":"","pi":2.5,"flag":true,"nothing":null,"tool":{"name":"get","parameters":{"a":[1,2.0,"q\"z"],"k":{}}}})~";

struct Case {
  const char* source;
  const char* expected;
};

const Case kCases[] = {
    {R"~({% for m in messages %}
  {{ m.role }}
{% endfor %}
end
)~",
     R"~(  system
  user
  assistant
  user
end)~"},
    {R"~(  {% if flag %}
    yes
  {% else %}
    no
  {% endif %}
rest)~",
     R"~(    yes
rest)~"},
    {R"~(a  {%- if flag -%}  
 b 
 {%- endif %}
 c)~",
     R"~(ab c)~"},
    {R"~({# comment #}
line {# inner #} x
  {# alone #}
z)~",
     R"~(line  x
z)~"},
    {R"~({{ 'it''s' }} {{ "two\nlines" }}|{{ '\u00e9' }})~",
     R"~(its two
lines|é)~"},
    {R"~({%- for m in messages -%}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{%- endfor -%})~",
     R"~(1/4,2/4,3/4,4/4)~"},
    {R"~({% for m in messages if m.role == 'user' %}{{ loop.index0 }}{{ m['content']|trim }};{% else %}none{% endfor %})~",
     R"~(0Hi;1Bye;)~"},
    {R"~({% for m in [] %}x{% else %}none{% endfor %})~", R"~(none)~"},
    {R"~({% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.found = true %}{% endif %}{% set ns.n = ns.n + loop.index %}{% endfor %}{{ ns.found }} {{ ns.n }})~",
     R"~(True 10)~"},
    {R"~({% set ns = namespace(items=[1, 2], get=3) %}{% set ns.keys = 'k' %}{{ ns.items|length }} {{ ns.get }} {{ ns.keys }} {{ ns.values is defined }})~",
     R"~(2 3 k False)~"},
    {R"~({% set ns = namespace(n=1) %}{% set ns.all = [ns.items] %}{{ ns.all|length }}{{ ns.items is defined }})~",
     R"~(1False)~"},
    {R"~({% set a = 1 %}{% for i in range(3) %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }})~", R"~(1231)~"},
    {R"~({{ messages[1:]|length }} {{ messages[-1].role }} {{ messages[::-1][0].content }} {{ text[1:4] }} {{ text[::-1] }} {{ messages[:-1]|map(attribute='role')|join('+') }})~",
     R"~(3 user Bye -b- c-b-a system+user+assistant)~"},
    {R"~({{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 * 3 + 4 }} {{ 2 + 3 * 4 }} {{ (2 + 3) * 4 }} {{ 1 - -1 }} {{ 10 ~ 'x' ~ 2.0 }})~",
     R"~(3 -4 2 3.5 10 14 20 2 10x2.0)~"},
    {R"~({{ x > 2 and x < 4 }} {{ 1 < x <= 3 }} {{ not flag or nothing }} {{ nothing is none }} {{ missing is defined }} {{ x is not defined }} {{ 'b' in text }} {{ 'z' not in text }} {{ 'name' in tool }})~",
     R"~(True True None True False False True True True)~"},
    {R"~({{ tool|tojson }}
{{ tool|tojson(indent=2) }})~",
     R"~({"name": "get", "parameters": {"a": [1, 2.0, "q\"z"], "k": {}}}
{
  "name": "get",
  "parameters": {
    "a": [
      1,
      2.0,
      "q\"z"
    ],
    "k": {}
  }
})~"},
    {R"~({{ text.split('-')[-1] }} {{ text.split('-', 1) }} {{ '  a b '.split() }} {{ text.upper() }} {{ 'hello world'.title() }} {{ 'hELLO'.capitalize() }} {{ text.replace('-', '+') }} {{ text.startswith('a') }} {{ text.endswith(('c', 'd')) }})~",
     R"~(c ['a', 'b-c'] ['a', 'b'] A-B-C Hello World Hello a+b+c True True)~"},
    {R"~({{ 'xxaxx'.strip('x') }} {{ '\n a'.lstrip() }}| {{ 'a \n'.rstrip() }}|)~", R"~(a a| a|)~"},
    {R"~({{ text|upper|lower|title }} {{ messages|length }} {{ messages|first|attr('role') if false else messages|last|length }} {{ missing|default('d') }} {{ empty|default('e', true) }} {{ '3'|int + 1 }} {{ x|string + '!' }})~",
     R"~(A-B-C 4 2 d e 4 3!)~"},
    {R"~({% for k, v in tool.items() %}{{ k }}={{ v }};{% endfor %}{{ tool.get('zz') }} {{ tool.get('zz', 5) }} {{ tool.keys()|list }})~",
     R"~(name=get;parameters={'a': [1, 2.0, 'q"z'], 'k': {}};None 5 ['name', 'parameters'])~"},
    {R"~({% for k, v in {'b': 1, 'a': [true, none]}|items %}{{ k }}{{ v }}{% endfor %}{{ {'b': 1, 'a': 2}|dictsort|map('join', '=')|list }})~",
     R"~(b1a[True, None]['a=2', 'b=1'])~"},
    {R"~({% set m %}block {{ x }}{% endset %}[{{ m }}])~", R"~([block 3])~"},
    {R"~({% set a, b = 1, 2 %}{{ a }}{{ b }}{% for p, q in [(1, 2), (3, 4)] %}{{ p * q }} {% endfor %})~",
     R"~(122 12 )~"},
    {R"~({% macro f(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ f(1) }}{{ f(1, b=2) }})~", R"~(<1z><12>)~"},
    {R"~({% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %})~",
     R"~(0134)~"},
    {R"~({% raw %}{{ not }} {% this %}{% endraw %}
x)~",
     R"~({{ not }} {% this %}x)~"},
    {R"~({{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }} {{ messages|rejectattr('role', 'in', ['user', 'system'])|list|length }})~",
     R"~([' Hi ', 'Bye'] 1)~"},
    {R"~({{ 'yes' if x is odd else 'no' }} {{ x is divisibleby 3 }} {{ x is string }} {{ messages is iterable }} {{ tool is mapping }} {{ pi is number }} {{ messages is sequence }} {{ flag is true }} {{ x is eq 3 }})~",
     R"~(yes True False True True True True True True)~"},
    {R"~({{ missing }}{{ nothing }}|{{ messages[99] }}|{{ tool.zz }}|{{ [1, 'a', 2.5, none, true] }}|{{ {'k': 'it\'s'} }})~",
     R"~(None|||[1, 'a', 2.5, None, True]|{'k': "it's"})~"},
    {R"~({{ 100000.0 * 1000 }} {{ 0.1 + 0.2 }} {{ 1.0 }} {{ 3 == 3.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1, 2] == [1, 2] }})~",
     R"~(100000000.0 0.30000000000000004 1.0 True True True True)~"},
    {R"~({%- if messages[0]['role'] == 'system' -%}{%- set loop_messages = messages[1:] -%}{%- endif -%}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}{{ '<|' + message['role'] + '|>' + message['content'] | trim + '</s>' }}{% endfor %})~",
     R"~(<|user|>Hi</s><|assistant|>Hello</s><|user|>Bye</s>)~"},
    {R"~({% generation %}g{{ x }}{% endgeneration %})~", R"~(g3)~"},
    {R"~({{ 'a
b

c'|indent(2) }} {{ [3, 1, 2]|sort|join(',') }} {{ [1, 1, 2]|unique|list }} {{ 'abc'|reverse }} {{ [1,2]|reverse|list }} {{ 2.567|round(2) }} {{ -3|abs }} {{ 'a,b'.splitlines() }} {{ ','.join(['p', 'q']) }} {{ 'hay'.find('y') }})~",
     R"~(a
  b

  c 1,2,3 [1, 2] cba [2, 1] 2.57 3 ['a,b'] p,q 2)~"},
    {R"~({{ loop is defined }}{% for a in [1,2] %}{% for b in [3,4] %}{{ loop.index }}{% endfor %}{{ loop.index }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %})~",
     R"~(False12121221)~"},
    {R"~(

  {%- if true %}

  x
  {%+ if true %}y{% endif +%}
{% endif %}

)~",
     R"~(
  x
  y
)~"},
    {R"~({{- 'a' -}}   
  {{ 'b' }}

)~",
     R"~(ab
)~"},
    {R"~({% if nothing %}1{% elif x == 3 %}2{% elif flag %}3{% else %}4{% endif %}{{ 'é日本'|length }}{{ 'é日本'[1] }})~",
     R"~(23日)~"},
};

TEST(ChatTemplate, RendersAsJinja2) {
  int rendered = 0;
  for (const Case& c : kCases) {
    EXPECT_EQ(ChatTemplate(c.source).render_json(kVariables), c.expected) << c.source;
    ++rendered;
  }
  EXPECT_GE(rendered, 35);
}

TEST(ChatTemplate, Qwen3WithToolsAndThinking) {
  ONDOL_REQUIRE_DATA("tokenizers/qwen3/tokenizer_config.json");
  const Json config = load_json(test::data_path("tokenizers/qwen3/tokenizer_config.json"));
  const ChatTemplate chat(config["chat_template"].get<std::string>());
  const char* conversation =
      R"~({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in 서울?"}, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "서울", "days": [1, 2]}}}]}, {"role": "tool", "content": "{\"sky\": \"clear\"}"}, {"role": "tool", "content": "warm"}, {"role": "assistant", "content": "<think>\nI know.\n</think>\n\nClear."}, {"role": "user", "content": "Thanks"}], "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}], "enable_thinking": false})~";
  EXPECT_EQ(chat.render_json(conversation),
            R"~(<|im_start|>system
Be brief.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
<|im_start|>user
Weather in 서울?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "weather", "arguments": {"place": "서울", "days": [1, 2]}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
{"sky": "clear"}
</tool_response>
<tool_response>
warm
</tool_response><|im_end|>
<|im_start|>assistant
Clear.<|im_end|>
<|im_start|>user
Thanks<|im_end|>
<|im_start|>assistant
<think>

</think>

)~");
}

TEST(ChatTemplate, PlainFormWithoutTemplate) {
  const ChatTemplate chat(ChatTemplate::plain());
  EXPECT_EQ(chat.render({{"user", "Hi"}, {"assistant", "Hello"}, {"user", "Bye"}}),
            "user: Hi\nassistant: Hello\nuser: Bye\nassistant:");
  EXPECT_EQ(chat.render({{"user", "Hi"}}, false), "user: Hi\n");
}

TEST(ChatTemplate, VariablesOfTheTokenizer) {
  ChatTemplate chat("{{ bos_token }}{{ messages[0].content }}");
  chat.set("bos_token", "<s>");
  EXPECT_EQ(chat.render({{"user", "Hi"}}), "<s>Hi");
}

std::string failure_of(const std::string& source) {
  try {
    ChatTemplate(source, "t.jinja").render_json(kVariables);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, ErrorsNameConstructAndLine) {
  EXPECT_EQ(failure_of("\n{{ raise_exception('No user') }}"), "chat template: No user (t.jinja line 2)");
  EXPECT_EQ(failure_of("{{ x|frobnicate }}"),
            "chat template: the filter \"frobnicate\" is not supported (t.jinja line 1)");
  EXPECT_EQ(failure_of("a\nb\n{% include 'x' %}"),
            "chat template: the statement {% include %} is not supported (t.jinja line 3)");
  EXPECT_EQ(failure_of("{{ x is frobnicated }}"),
            "chat template: the test \"frobnicated\" is not supported (t.jinja line 1)");
  EXPECT_EQ(failure_of("{{ missing.name }}"), "chat template: 'missing' is undefined (t.jinja line 1)");
  EXPECT_EQ(failure_of("{{ text + missing }}"), "chat template: 'missing' is undefined (t.jinja line 1)");
  EXPECT_EQ(failure_of("{{ text + x }}"), "chat template: cannot compute a string + an integer (t.jinja line 1)");
  EXPECT_EQ(failure_of("{% if x %}"), "chat template: {% if %} is not closed (t.jinja line 1)");
  EXPECT_EQ(failure_of("{% for m in messages %}{% endif %}"),
            "chat template: {% for %} is not closed (t.jinja line 1)");
  EXPECT_EQ(failure_of("\n{{ x "), "chat template: {{ is not closed (t.jinja line 2)");
  EXPECT_EQ(failure_of("{{ x ! }}"), "chat template: unexpected character '!' (t.jinja line 1)");
  EXPECT_EQ(failure_of("{{ 1 // 0 }}"), "chat template: division by zero (t.jinja line 1)");
  EXPECT_EQ(failure_of("{{ nothing() }}"), "chat template: a call needs a function, not none (t.jinja line 1)");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const std::string loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
  EXPECT_NE(failure_of(loops), "");
  EXPECT_NE(
      failure_of(
          "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
      "");
  EXPECT_NE(failure_of("{{ " + std::string(100000, '(') + " }}"), "");
  EXPECT_NE(failure_of("{{ " + std::string(100000, '-') + "1 }}"), "");
  EXPECT_NE(failure_of("{{ range(10 ** 9) }}"), "");
  EXPECT_NE(failure_of("{{ range(99999999) }}"), "");
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "{% if x %}";
  EXPECT_NE(failure_of(nested), "");
  EXPECT_NE(failure_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "");
}

/// What a template that never ends, or that asks for all of the stack or the memory, is refused with.
std::string refusal(const std::string& source) {
  try {
    const ChatTemplate chat(source);
    chat.render({{"user", "Hi"}});
    return "";
  } catch (const UsageError& error) {
    return error.what();
  }
}

TEST(ChatTemplate, BoundsWhatHostileTemplatesMake) {
  std::string chain = "{{ 1";
  for (int i = 0; i < 100000; ++i) chain += "+1";
  std::string filters = "{{ 'a'";
  for (int i = 0; i < 100000; ++i) filters += "|trim";
  std::string attributes = "{{ messages";
  for (int i = 0; i < 100000; ++i) attributes += ".a";
  for (const std::string& source : {chain, filters, attributes}) {
    EXPECT_NE(refusal(source + " }}").find("the expression is too long"), std::string::npos);
  }
  const std::pair<const char*, const char*> cases[] = {
      {"{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "a namespace cannot be part of another value"},
      {"{% set ns = namespace() %}{{ [ns] }}", "a namespace cannot be part of another value"},
      {"{% set ns = namespace() %}{% set ns.f = range %}", "a namespace cannot hold a function"},
      {"{% for m in messages %}{% set m.role = 'x' %}{% endfor %}", "only be set of a namespace"},
      {"{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
       "nested too deeply"},
      {"{% set ns = namespace(a=[1]) %}{% for i in range(90) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
       "too many elements"},
      {"{% set a = range(100000)|list %}{% for i in range(100000) %}{% if a == a %}{% endif %}{% endfor %}",
       "does not come to an end"},
      {"{% set ns = namespace(a='0123456789') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
       "too long"},
      {"{% set ns = namespace(a=range(10000)|list) %}{% for i in range(90) %}{% set ns.a = [ns.a] %}{% endfor %}"
       "{{ ns.a|tojson(indent=100) }}",
       "too long"},
      {"{{ (-9223372036854775807 - 1)|abs }}", "an integer is too large"},
      {"{{ (9223372036854775807 * 2.0)|int }}", "an integer is too large"},
      {"{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "too deeply"},
  };
  for (const auto& [source, why] : cases) {
    EXPECT_NE(refusal(source).find(why), std::string::npos) << source << ": " << refusal(source);
  }
}

}  // namespace
}  // namespace ondol
