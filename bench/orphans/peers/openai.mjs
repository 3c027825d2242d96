import Anthropic from '@anthropic-ai/sdk';
import { z } from 'zod';
import { peer, swallow, version } from '../row.mjs';

const { Agent, Runner, setTracingDisabled, tool, Usage } = await peer('@openai/agents-core');

setTracingDisabled(true);

/** A model of theirs that asks the Messages server: the loop around it and the tools are what is looked at. */
class MessagesModel {
  constructor(url) {
    this.client = new Anthropic({ apiKey: 'bench', baseURL: url, maxRetries: 0 });
  }

  params({ input, tools }) {
    return {
      model: 'bench',
      max_tokens: 1_024,
      messages: toMessages(input),
      tools: tools.map(({ name, description, parameters }) => ({ name, description, input_schema: parameters })),
    };
  }

  async getResponse(request) {
    const message = await this.client.messages.create(this.params(request), { signal: request.signal });
    return { usage: new Usage(), output: toOutput(message), responseId: message.id };
  }

  async *getStreamedResponse(request) {
    yield { type: 'response_started' };
    const events = this.client.messages.stream(this.params(request), { signal: request.signal });
    for await (const event of events) yield { type: 'model', event };
    const message = await events.finalMessage();
    const usage = { requests: 1, inputTokens: 1, outputTokens: 1, totalTokens: 2 };
    yield { type: 'response_done', response: { id: message.id, usage, output: toOutput(message) } };
  }
}

function toMessages(input) {
  const items = typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : input;
  return items.map((item) => {
    if (item.type === 'function_call')
      return { role: 'assistant', content: [{ type: 'tool_use', id: item.callId, name: item.name, input: JSON.parse(item.arguments) }] };
    if (item.type === 'function_call_result')
      return { role: 'user', content: [{ type: 'tool_result', tool_use_id: item.callId, content: JSON.stringify(item.output) }] };
    const content = typeof item.content === 'string' ? item.content : item.content.map(({ text }) => text).join('');
    return { role: item.role, content };
  });
}

const toOutput = ({ content }) =>
  content.map((block) =>
    block.type === 'tool_use'
      ? { type: 'function_call', callId: block.id, name: block.name, arguments: JSON.stringify(block.input), status: 'completed' }
      : { type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: block.text }] },
  );

const agentOf = (job) => {
  const tools = Object.entries(job.tools).map(([name, body]) =>
    tool({ name, description: name, parameters: z.object({}), execute: (_input, _context, details) => body(details?.signal) }),
  );
  return new Agent({ name: 'bench', model: new MessagesModel(job.url), tools });
};

const run = (job, options) => new Runner({ tracingDisabled: true }).run(agentOf(job), 'Go.', options);

const abort = (job) => {
  void job.abortAtMoment();
  return swallow(run(job, { signal: job.signal }));
};

const leave = async (job) => {
  const result = await run(job, { stream: true });
  void swallow(result.completed);
  const reader = result.toStream().getReader();
  const read = async () => {
    while (!(await reader.read()).done);
  };
  void swallow(read());
  await job.moment();
  await swallow(reader.cancel());
};

export const rows = [
  {
    name: 'OpenAI agents',
    with: version('@openai/agents-core'),
    model: {},
    fail: (job) => swallow(run(job)),
    abort,
    leave,
    abortQuiet: abort,
    leaveQuiet: leave,
  },
];
