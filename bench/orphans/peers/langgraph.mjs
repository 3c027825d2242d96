import { z } from 'zod';
import { peer, swallow, version } from '../row.mjs';

const { ChatAnthropic } = await peer('@langchain/anthropic');
const { AIMessage } = await peer('@langchain/core/messages');
const { tool } = await peer('@langchain/core/tools');
const { createReactAgent, ToolNode } = await peer('@langchain/langgraph/prebuilt');

const toolsOf = (job) =>
  Object.entries(job.tools).map(([name, body]) =>
    tool((_input, config) => body(config?.signal), { name, description: name, schema: z.object({}) }),
  );

const llmOf = (job, streaming) =>
  new ChatAnthropic({ apiKey: 'bench', anthropicApiUrl: job.url, model: 'bench', maxTokens: 1_024, maxRetries: 0, streaming });

const input = { messages: [{ role: 'user', content: 'Go.' }] };
const graph = (job, tools = toolsOf(job)) => createReactAgent({ llm: llmOf(job), tools });
const invoke = (job, config) => swallow(graph(job).invoke(input, config));

const abortInvoke = (job) => {
  void job.abortAtMoment();
  return invoke(job, { signal: job.signal });
};

/** Leaves a stream of messages: what is shown to a user while it is written. */
const leaveStream = async (job) => {
  const agent = createReactAgent({ llm: llmOf(job, true), tools: toolsOf(job) });
  const iterator = (await agent.stream(input, { streamMode: 'messages' }))[Symbol.asyncIterator]();
  const read = async () => {
    while (!(await iterator.next()).done);
  };
  void swallow(read());
  await job.moment();
  await swallow(iterator.return());
};

/** The node by itself, asked to let errors through. */
const node = (job, config) => {
  const calls = job.names.map((name, n) => ({ name, args: {}, id: `call_${n}`, type: 'tool_call' }));
  const message = new AIMessage({ content: '', tool_calls: calls });
  return swallow(new ToolNode(toolsOf(job), { handleToolErrors: false }).invoke({ messages: [message] }, config));
};

const versions = `${version('@langchain/langgraph')}, ${version('@langchain/core')}, ${version('@langchain/anthropic')}`;

export const rows = [
  {
    name: 'LangGraph createReactAgent',
    with: versions,
    model: {},
    fail: invoke,
    abort: abortInvoke,
    leave: leaveStream,
    abortQuiet: abortInvoke,
    leaveQuiet: leaveStream,
  },
  {
    name: 'LangGraph ToolNode, handleToolErrors: false',
    with: versions,
    fail: node,
    abort: (job) => {
      void job.abortAtMoment();
      return node(job, { signal: job.signal });
    },
  },
];
