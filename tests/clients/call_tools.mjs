// Starts a server, lists its tools, makes the calls given as JSON and prints every answer as JSON.
// The client checks structured content against each tool's output schema and throws if it is wrong.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const { command, args, cwd, calls } = JSON.parse(process.argv[2]);
const client = new Client({ name: "probe-ts", version: "1" });
await client.connect(
  new StdioClientTransport({ command, args, cwd, env: process.env, stderr: "inherit" }),
);
const { tools } = await client.listTools();
const { resourceTemplates } = await client.listResourceTemplates();
const { prompts } = await client.listPrompts();
const answers = [];
for (const call of calls) {
  // "$ID" stands for the id that the first call, a write, has answered with
  const text = JSON.stringify(call.arguments).replace("$ID", answers[0]?.structuredContent.id);
  answers.push(await client.callTool({ name: call.name, arguments: JSON.parse(text) }));
}
await client.close();
console.log(
  JSON.stringify({
    server: client.getServerVersion(),
    tools: tools.map((tool) => tool.name),
    templates: resourceTemplates.map((template) => template.uriTemplate),
    prompts: prompts.map((prompt) => prompt.name),
    answers,
  }),
);
