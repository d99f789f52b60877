"""Chat templates with the features of published ones that can do more than talk: tools, calls, switches for thoughts."""

from __future__ import annotations

# Qwen3's features: tools as JSON lines in the system message, calls between tags, results in tags in a user's turn, a switch for thoughts.
QWEN3_TOOLS = """{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- if tools or system %}{{- '<|im_start|>system\\n' + system }}
  {%- if tools %}{{- '\\n\\n# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools>\\nCall one so:\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call>' }}
  {%- endif %}{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
  {%- set content = m.content if m.content is string else '' %}
  {%- if m.role == 'user' %}{{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}
  {%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\\n' + content }}
    {%- for call in m.tool_calls or [] %}
      {%- set call = call.function %}
      {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
      {{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- '}\\n</tool_call>' }}
    {%- endfor %}{{- '<|im_end|>\\n' }}
  {%- elif m.role == 'tool' %}
    {%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
    {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

# Llama 3's: tools indented before the first question, one call as the whole answer, results as JSON from ipython.
LLAMA3_TOOLS = """{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- for m in messages %}
  {%- if m.role == 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
    {%- if m.content is iterable %}{{- m.content | tojson }}{%- else %}{{- m.content }}{%- endif %}
  {%- elif 'tool_calls' in m %}
    {%- if m.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{%- endif %}
    {%- set call = m.tool_calls[0].function %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' }}
  {%- else %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
    {%- if loop.first and tools is not none %}
      {{- 'Answer with {"name": name of a function, "parameters": its arguments}.\\n\\n' }}
      {%- for t in tools %}{{- t | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
    {%- endif %}{{- m.content | trim }}
  {%- endif %}{{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

# Hermes's: wants every tool to have a description, and says types of arguments in words of its own.
HERMES_TOOLS = """{%- for tool in tools or [] %}{{- tool.function.name + ': ' + tool.function.description + ' (' }}
  {%- for name, about in tool.function.parameters.properties.items() %}{{- name + ': ' + ('int' if about.type == 'integer' else 'str') }}
    {%- if 'description' in about %}{{- ' # ' + about.description }}{%- endif %}{{- ', ' if not loop.last }}
  {%- endfor %}{{- ')\\n' }}
{%- endfor %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
  {%- for call in m.tool_calls or [] %}
    {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
  {%- endfor %}{{- m.content or '' }}{{- '<|im_end|>\\n' }}
{%- endfor %}{{- '<|im_start|>assistant\\n' }}"""

# R1's: no place for tools, but calls of earlier answers, whose arguments are text, in turns without any content.
R1_CALLS = """{{- bos_token }}{%- for m in messages %}
  {%- if m.role == 'user' %}{{- '<｜User｜>' + m.content }}{%- endif %}
  {%- if m.role == 'assistant' and m.content is none %}
    {%- for call in m.tool_calls %}{{- '<｜tool▁call▁begin｜>' + call['type'] + '<｜tool▁sep｜>' + call.function.name }}
      {{- '\\n' + call.function.arguments + '<｜tool▁call▁end｜>' }}
    {%- endfor %}{{- '<｜end▁of▁sentence｜>' }}
  {%- endif %}
  {%- if m.role == 'assistant' and m.content is not none %}{{- '<｜Assistant｜>' + m.content + '<｜end▁of▁sentence｜>' }}{%- endif %}
  {%- if m.role == 'tool' %}{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}{%- endif %}
{%- endfor %}{{- '<｜Assistant｜><think>\\n' }}"""
