// The `openai` and `@anthropic-ai/sdk` npm packages through a gateway: node clients.mjs URL. Prints what they got, as JSON.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const url = process.argv[2];
const messages = [{ role: "user", content: "Who wrote Faust?" }];
const tools = [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }];
const found = {};

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
found.plain = (await openai.chat.completions.create({ model: "auto", messages })).choices[0].message.content;
found.stream = "";
for await (const chunk of await openai.chat.completions.create({ model: "auto", messages, stream: true })) {
  found.stream += chunk.choices[0].delta.content ?? ""; // fails on a chunk without choices
}
found.usage = [];
for await (const chunk of await openai.chat.completions.create({ model: "auto", messages, stream: true, stream_options: { include_usage: true } })) {
  if (chunk.usage) found.usage.push(chunk.usage.total_tokens);
}
const called = await openai.chat.completions.stream({ model: "auto", messages, tools }).finalChatCompletion();
found.tools = called.choices[0].finish_reason;
found.responses = (await openai.responses.create({ model: "auto:cheap", input: "Who wrote Faust?" })).output_text;
found.models = [];
for await (const model of openai.models.list()) found.models.push(model.id);
try {
  await openai.chat.completions.create({ model: "nobody", messages });
} catch (error) {
  found.error = error.constructor.name;
}

const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const asked = { model: "auto:cheap", max_tokens: 100, messages };
found.message = (await anthropic.messages.create(asked)).content[0].text;
const final = await anthropic.messages.stream(asked).finalMessage();
found.streamed = { text: final.content[0].text, stop: final.stop_reason, output: final.usage.output_tokens };
console.log(JSON.stringify(found));
