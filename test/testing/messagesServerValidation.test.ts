import Anthropic from '@anthropic-ai/sdk';
import type { APIError } from '@anthropic-ai/sdk';
import { describe, expect, it } from 'vitest';
import { reply } from '../../src/testing/messages/reply.js';
import { ask, start } from './messagesServerHarness.js';

type Message = { role: string; content: unknown };
const user = (content: unknown): Message => ({ role: 'user', content });
const assistant = (content: unknown): Message => ({ role: 'assistant', content });
const text = (value: string) => ({ type: 'text', text: value });
const use = (id: string, more: object = {}) => ({ type: 'tool_use', id, name: 'f', input: {}, ...more });
const result = (id: string, more: object = {}) => ({ type: 'tool_result', tool_use_id: id, content: 'ok', ...more });
const tool = (more: object = {}) => ({ name: 'f', input_schema: { type: 'object' }, ...more });
const history = (...messages: readonly Message[]) => ({ messages: [user('go'), ...messages] });
const answered = (block: unknown) => history(assistant([use('a')]), user([block]));

/** What the API says to a body; `undefined` if it takes it. */
async function complaint(body: object, count = false): Promise<string | null | undefined> {
  const { client } = await start(() => reply.text('fine'));
  const params = { ...(count ? { model: ask.model, messages: ask.messages } : ask), ...body } as never;
  const asked = count ? client.messages.countTokens(params) : client.messages.create(params);
  return asked.then(
    () => undefined,
    (error: unknown) => {
      expect(error).toBeInstanceOf(Anthropic.BadRequestError);
      expect(error).toMatchObject({ status: 400, type: 'invalid_request_error' });
      return (error as APIError).apiMessage;
    },
  );
}

const NO_RESULT = (where: string, ids: string) =>
  `messages.${where}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${ids}. ` +
  'Each `tool_use` block must have a corresponding `tool_result` block in the next message.';
const NO_USE = (where: string, id: string) =>
  `messages.${where}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${id}. ` +
  'Each `tool_result` block must have a corresponding `tool_use` block in the previous message.';
const EMPTY = 'all messages must have non-empty content except for the optional final assistant message';

describe('parameters', () => {
  it.each([
    [{ model: undefined }, 'model: Field required'],
    [{ model: '' }, 'model: String should have at least 1 character'],
    [{ max_tokens: undefined }, 'max_tokens: Field required'],
    [{ max_tokens: 1.5 }, 'max_tokens: Input should be a valid integer'],
    [{ max_tokens: -1 }, 'max_tokens: Input should be greater than or equal to 0'],
    [{ messages: undefined }, 'messages: Field required'],
    [{ messages: 'hi' }, 'messages: Input should be a valid list'],
    [{ messages: [] }, 'messages: at least one message is required'],
    [{ response_format: {} }, 'response_format: Extra inputs are not permitted'],
    [{ system: [{ type: 'image' }] }, "system.0: Input tag 'image' found using 'type' does not match any of the expected tags: 'text'"],
    [{ system: 7 }, 'system: Input should be a valid string or a valid list'],
    [{ thinking: { type: 'enabled', budget_tokens: 10 } }, 'thinking.enabled.budget_tokens: Input should be greater than or equal to 1024'],
    [{ thinking: { type: 'enabled', budget_tokens: 2000 } }, '`max_tokens` must be greater than `thinking.budget_tokens`.'],
  ])('refuses %j', async (body, message) => {
    expect(await complaint(body)).toBe(message);
  });

  it('takes what the API takes', async () => {
    const body = {
      system: [text('be kind')],
      tools: [tool(), { type: 'web_search_20250305', name: 'web_search' }],
      tool_choice: { type: 'tool', name: 'f' },
    };
    expect(await complaint({ ...body, stop_sequences: ['x'], metadata: { user_id: 'u' }, temperature: 0.5 })).toBeUndefined();
  });

  it('counts the same bodies but for max_tokens', async () => {
    expect(await complaint({}, true)).toBeUndefined();
    expect(await complaint({ max_tokens: 5 }, true)).toBe('max_tokens: Extra inputs are not permitted');
    expect(await complaint(history(assistant([use('a')])), true)).toBe(NO_RESULT('1', 'a'));
  });

  it('takes unknown parameters with a beta header', async () => {
    const { client } = await start(() => reply.text('x'));
    const params = { ...ask, betas: ['context-management-2025-06-27' as const], context_management: { edits: [] } };
    await expect(client.beta.messages.create(params)).resolves.toMatchObject({ content: [{ text: 'x' }] });
  });
});

describe('tools', () => {
  it.each([
    [[tool(), tool()], undefined, 'tools: Tool names must be unique.'],
    [[tool({ name: 'a b' })], undefined, "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"],
    [[tool({ name: 'x'.repeat(129) })], undefined, "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"],
    [[{ name: 'f' }], undefined, 'tools.0.custom.input_schema: Field required'],
    [[tool({ input_schema: {} })], undefined, 'tools.0.custom.input_schema.type: Field required'],
    [[tool({ input_schema: { type: 'array' } })], undefined, "tools.0.custom.input_schema.type: Input should be 'object'"],
    [
      [tool({ input_schema: { type: 'object', anyOf: [] } })],
      undefined,
      'tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level',
    ],
    [[tool({ run: 'me' })], undefined, 'tools.0.custom.run: Extra inputs are not permitted'],
    [[tool()], { type: 'tool', name: 'g' }, "tool_choice: Tool 'g' not found in provided tools"],
    [undefined, { type: 'any' }, 'tool_choice: tool_choice may only be specified while providing tools'],
  ])('refuses %j with choice %j', async (tools, tool_choice, message) => {
    expect(await complaint({ tools, tool_choice })).toBe(message);
  });
});

describe('messages', () => {
  it.each([
    [{ messages: [assistant('hi')] }, 'messages: first message must use the "user" role'],
    [{ messages: [{ role: 'robot', content: 'hi' }] }, "messages.0.role: Input should be 'user', 'assistant' or 'system'"],
    [{ messages: [{ role: 'user', content: 'hi', name: 'me' }] }, 'messages.0.name: Extra inputs are not permitted'],
    [{ messages: [{ role: 'user' }] }, 'messages.0.content: Field required'],
    [{ messages: [user(7)] }, 'messages.0.content: Input should be a valid list'],
    [{ messages: [user('')] }, `messages.0: ${EMPTY}`],
    [{ messages: [user([])] }, `messages.0: ${EMPTY}`],
    [history(assistant([]), user('x')), `messages.1: ${EMPTY}`],
    [{ messages: [user([text('')])] }, 'messages.0.content.0: text content blocks must be non-empty'],
    [{ messages: [user([text(' \n')])] }, 'messages.0.content.0: text content blocks must contain non-whitespace text'],
    [{ messages: [user('  ')] }, 'messages.0: text content blocks must contain non-whitespace text'],
    [history(assistant('ends with ')), 'messages: final assistant content cannot end with trailing whitespace'],
    [{ messages: [user([{ text: 'x' }])] }, 'messages.0.content.0.type: Field required'],
    [{ messages: [user([{ type: 'text' }])] }, 'messages.0.content.0.text.text: Field required'],
    [{ messages: [user([{ ...text('x'), index: 1 }])] }, 'messages.0.content.0.text.index: Extra inputs are not permitted'],
    [{ messages: [user([use('a')])] }, 'messages.0.content.0: `tool_use` blocks can only be in `assistant` messages'],
    [history(assistant([result('a')])), 'messages.1.content.0: `tool_result` blocks can only be in `user` messages'],
    [
      history({ role: 'system', content: 'be brief' }, user('x')),
      "messages.1: role 'system' must precede an 'assistant' message or end the array",
    ],
    [
      history(assistant([{ type: 'web_search_tool_result', tool_use_id: 's', content: [] }])),
      expect.stringContaining('`server_tool_use` block before it.'),
    ],
  ])('refuses %j', async (body, message) => {
    expect(await complaint(body)).toEqual(message);
  });

  it('refuses kinds of block that it does not know', async () => {
    expect(await complaint({ messages: [user([{ type: 'tool_output', id: 'x' }])] })).toMatch(
      /^messages\.0\.content\.0: Input tag 'tool_output' found using 'type' does not match any of the expected tags: 'text', 'image', /,
    );
  });

  it.each([
    [history(user('and more'), assistant('one'), assistant('two'), user('go on'))],
    [history(assistant(''))],
    [history(assistant([]))],
    [history(assistant('a prefill'))],
    [history(assistant('yes'), user('x'), { role: 'system', content: 'be brief' })],
    [history({ role: 'system', content: [text('be brief')] }, assistant('ok'))],
    [{ messages: [user([text('see'), { type: 'image', source: { type: 'url', url: 'https://x' } }])] }],
  ])('takes %j', async (body) => {
    expect(await complaint(body)).toBeUndefined();
  });
});

describe('tool calls and results', () => {
  it.each([
    [history(assistant([use('a'), use('b')]), user([result('b')])), NO_RESULT('1', 'a')],
    [history(assistant([use('a'), use('b')])), NO_RESULT('1', 'a, b')],
    [history(assistant([use('a')]), user('never mind')), NO_RESULT('1', 'a')],
    [history(assistant([use('a')]), user([text('here:'), result('a')])), NO_RESULT('1', 'a')],
    [history(assistant([use('a')]), user([result('a')]), assistant('ok'), user([result('a')])), NO_USE('4.content.0', 'a')],
    [{ messages: [user([result('a')])] }, NO_USE('0.content.0', 'a')],
    [history(assistant([use('a')]), user([result('a'), result('z')])), NO_USE('2.content.1', 'z')],
    [history(assistant([use('a'), use('a')]), user([result('a')])), 'messages.1.content.1: `tool_use` ids must be unique'],
    [
      history(assistant([use('a')]), user([result('a')]), assistant([use('a')]), user([result('a')])),
      'messages.3.content.0: `tool_use` ids must be unique',
    ],
    [
      history(assistant([use('a')]), user([result('a'), result('a')])),
      'messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id: a',
    ],
    [history(assistant([use('a', { input: '{}' })])), 'messages.1.content.0.tool_use.input: Input should be a valid dictionary'],
    [history(assistant([use('a', { input: undefined })])), 'messages.1.content.0.tool_use.input: Field required'],
    [history(assistant([use('a', { index: 0 })])), 'messages.1.content.0.tool_use.index: Extra inputs are not permitted'],
    [history(assistant([use('a b')])), "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"],
    [answered(result('a', { name: 'f' })), 'messages.2.content.0.tool_result.name: Extra inputs are not permitted'],
    [answered(result('a', { is_error: 'yes' })), 'messages.2.content.0.tool_result.is_error: Input should be a valid boolean'],
    [
      answered(result('a', { content: { n: 1 } })),
      'messages.2.content.0.tool_result.content: Input should be a valid string or a valid list',
    ],
    [answered(result('a', { content: [text('')] })), 'messages.2.content.0.tool_result.content.0: text content blocks must be non-empty'],
    [
      answered(result('a', { content: '', is_error: true })),
      'messages.2.content.0.tool_result: content cannot be empty if `is_error` is true',
    ],
    [
      answered(result('a', { content: [use('x')] })),
      expect.stringContaining("messages.2.content.0.tool_result.content.0: Input tag 'tool_use' found"),
    ],
    [answered({ type: 'tool_result', content: 'x' }), 'messages.2.content.0.tool_result.tool_use_id: Field required'],
  ])('refuses %j', async (body, message) => {
    expect(await complaint(body)).toEqual(message);
  });

  it.each([
    [answered({ type: 'tool_result', tool_use_id: 'a' })],
    [answered(result('a', { content: '', cache_control: { type: 'ephemeral' } }))],
    [history(assistant([text('so'), use('a'), use('b')]), user([result('b', { is_error: true }), result('a'), text('and?')]))],
    [history(assistant([use('a')]), assistant([use('b')]), user([result('a')]), user([result('b')]), user('go on'))],
  ])('takes %j', async (body) => {
    expect(await complaint(body)).toBeUndefined();
  });

  it('looks at nothing where validation is off', async () => {
    const { client } = await start(() => reply.text('x'), { validate: false });
    await expect(
      client.messages.create({ ...ask, ...(history(assistant([use('a')])) as object), nonsense: 1 } as never),
    ).resolves.toBeDefined();
  });
});

describe('thinking', () => {
  type Block = Anthropic.ContentBlockParam;
  const thinking = { type: 'enabled', budget_tokens: 1024 } as const;

  async function replay(change: (content: Block[]) => Block[]) {
    const { client } = await start([
      reply.message({
        content: [
          { type: 'thinking', thinking: 'I should search.' },
          { type: 'redacted_thinking', data: 'opaque' },
          { type: 'tool_use', name: 'f', input: {} },
        ],
      }),
      reply.text('done'),
    ]);
    const params = { ...ask, max_tokens: 2000, thinking, tools: [tool() as Anthropic.Tool] };
    const { content } = await client.messages.stream(params).finalMessage();
    const messages = [...ask.messages, { role: 'assistant' as const, content: change(content) }, user([result('toolu_0001')]) as never];
    return client.messages.create({ ...params, messages }).then(
      () => undefined,
      (error: unknown) => (error as APIError).apiMessage,
    );
  }

  it('takes it back as it was issued', async () => {
    expect(await replay((content) => content)).toBeUndefined();
  });

  it('notices every change', async () => {
    const changed = (more: object) => replay(([first, ...rest]) => [{ ...first, ...more } as Block, ...rest]);
    expect(await changed({ thinking: 'I should not.' })).toBe(
      'messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. ' +
        'These blocks must remain as they were in the original response.',
    );
    expect(await changed({ signature: 'forged' })).toBe('messages.1.content.0: Invalid `signature` in `thinking` block');
    expect(await replay(([first, , call]) => [first!, { type: 'redacted_thinking', data: 'else' }, call!])).toBe(
      'messages.1.content.1: Invalid `data` in `redacted_thinking` block',
    );
    expect(await replay((content) => content.slice(2))).toMatch(
      /^messages\.1\.content\.0\.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`\. /,
    );
    expect(await replay((content) => [...content.slice(1), content[0]!])).toBe(
      'messages.1.content.2: The final block in an assistant message cannot be `thinking`.',
    );
  });
});
