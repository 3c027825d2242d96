import fc from 'fast-check';
import { findProblem, type ValidateOptions } from '../../src/testing/messages/validate.js';
import type { MessageParam } from './harness.js';

export type Fields = Record<string, unknown>;

export const use = (id: unknown, input: unknown = {}, extra: Fields = {}): Fields => ({ type: 'tool_use', id, name: 't', input, ...extra });
export const res = (id: unknown, content: unknown = 'r', extra: Fields = {}): Fields => ({
  type: 'tool_result',
  tool_use_id: id,
  content,
  ...extra,
});
export const text = (said: unknown): Fields => ({ type: 'text', text: said });
export const user = (content: unknown): Fields => ({ role: 'user', content });
export const assistant = (content: unknown): Fields => ({ role: 'assistant', content });
export const system = (content: unknown): Fields => ({ role: 'system', content });
export const search = (id: unknown): Fields => ({ type: 'server_tool_use', id, name: 'web_search', input: {} });
export const found = (id: unknown): Fields => ({ type: 'web_search_tool_result', tool_use_id: id, content: [] });

/** All blocks of a history that looks like one. */
export function blocksIn(messages: unknown): Fields[] {
  return (messages as { content: string | Fields[] }[]).flatMap(({ content }) => (typeof content === 'string' ? [text(content)] : content));
}

/** What a server that has issued all of the thinking in it would refuse in a history. */
export function problemOf(messages: unknown): string | undefined {
  const issued = (): string[] => blocksIn(messages).flatMap(({ type, thinking }) => (type === 'thinking' ? [String(thinking)] : []));
  let queue: string[] | undefined;
  const memory = { signed: { get: () => (queue ??= issued()).shift() }, redacted: { has: () => true }, thoughtful: new Set<string>() };
  return findProblem({ model: 'm', max_tokens: 10, messages }, { counting: false, beta: false, memory } as unknown as ValidateOptions);
}

/** What happens in one exchange of a history that is in order. */
const exchange = fc.record({
  asked: fc.constantFrom<unknown>('go on', [text('go on')], [text('look'), { type: 'image', source: { type: 'url', url: 'https://x' } }]),
  more: fc.constantFrom<unknown[]>([], [user('and this')], [system('be brief')], [user([text('and')]), system([text('be brief')])]),
  thinks: fc.constantFrom<Fields[]>(
    [],
    [{ type: 'thinking', thinking: 'hm', signature: 'signed' }],
    [{ type: 'redacted_thinking', data: 'blob' }],
  ),
  served: fc.constantFrom('no', 'in one reply', 'after a pause', 'after our calls'),
  calls: fc.integer({ min: 0, max: 3 }),
  order: fc.constantFrom('as called', 'backwards', 'one message each'),
  said: fc.constantFrom<unknown>('done', [text('done')], [{ ...text('done'), citations: null, cache_control: { type: 'ephemeral' } }]),
  content: fc.constantFrom<unknown>('r', '', undefined, [], [text('r'), text(' ')], [{ type: 'tool_reference', tool_name: 'x' }]),
});
type Exchange = typeof exchange extends fc.Arbitrary<infer T> ? T : never;

function told({ asked, more, thinks, served, calls, order, said, content }: Exchange, n: number): unknown[] {
  const ids = Array.from({ length: calls }, (_, i) => `call_${n}_${i}`);
  const late = served === 'after our calls' && calls > 0;
  const caller = late ? { caller: { type: 'code_execution_20250825', tool_id: `s_${n}` } } : {};
  const results = ids.map((id) => res(id, content, content === 'r' ? { is_error: true } : {}));
  if (order === 'backwards') results.reverse();
  const answers = order === 'one message each' ? results.map((each) => user([each])) : [user(results)];
  const pair = [search(`s_${n}`), found(`s_${n}`)];
  const reply = [
    ...thinks,
    ...(late ? pair.slice(0, 1) : served === 'in one reply' ? pair : []),
    ...ids.map((id) => use(id, { n }, caller)),
  ];
  const end = typeof said === 'string' ? [text(said)] : (said as unknown[]);
  if (calls > 0) return [user(asked), ...more, assistant(reply), ...answers, assistant([...(late ? pair.slice(1) : []), ...end])];
  if (served === 'after a pause') return [user(asked), ...more, assistant([...reply, pair[0]]), assistant([pair[1], ...end])];
  return [user(asked), ...more, assistant(reply.length === 0 ? said : [...reply, ...end])];
}

/** Histories in order, cut off at places where a history in order may end. */
export const inOrder: fc.Arbitrary<MessageParam[]> = fc
  .tuple(fc.array(exchange, { minLength: 1, maxLength: 4 }), fc.constantFrom('whole', 'asked', 'answered'))
  .map(([exchanges, end]) => {
    const all = exchanges.flatMap(told) as MessageParam[];
    if (end === 'asked') return [...all, user('more')] as unknown as MessageParam[];
    const cut = all.slice(0, -1);
    return end === 'answered' && cut.at(-1)?.role === 'user' ? cut : all;
  });

const junk = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    ' ',
    'x',
    0,
    5,
    true,
    false,
    [],
    {},
    [null],
    [''],
    ['x'],
    { type: 'text' },
    'call_0_0',
    '__proto__',
    'a b',
  ),
  fc.jsonValue({ maxDepth: 2 }),
);
const types = [
  ...['text', 'image', 'document', 'search_result', 'thinking', 'redacted_thinking', 'tool_use', 'tool_result', 'tool_reference'],
  ...['server_tool_use', 'web_search_tool_result', 'mcp_tool_use', 'mcp_tool_result', 'container_upload', 'browser_state', 'compaction'],
  ...['constructor', 'toString', '__proto__', ''],
];
const id = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom<unknown>('a', 'b', 'a_2', 'über', '', '__proto__', 7) },
  { weight: 1, arbitrary: junk },
);
const rarely = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: junk });
const block = fc.oneof(
  fc.record(
    { type: fc.constant('tool_use'), id, name: rarely(fc.constant('t')), input: rarely(fc.constant({})) },
    { requiredKeys: ['type'] },
  ),
  fc.record(
    { type: fc.constant('tool_result'), tool_use_id: id, content: junk, is_error: rarely(fc.boolean()) },
    { requiredKeys: ['type'] },
  ),
  fc.record(
    { type: fc.constantFrom('server_tool_use', 'mcp_tool_use'), id, caller: rarely(fc.record({ tool_id: id })) },
    { requiredKeys: ['type'] },
  ),
  fc.record({ type: fc.constantFrom('web_search_tool_result', 'mcp_tool_result'), tool_use_id: id }, { requiredKeys: ['type'] }),
  fc.record({ type: fc.constant('text'), text: rarely(fc.constantFrom('hi', 'hi ', ' ', '')) }),
  fc.record({ type: fc.constant('thinking'), thinking: rarely(fc.constant('hm')), signature: rarely(fc.constantFrom('s', '')) }),
  fc.record(
    { type: fc.constantFrom(...types), id, text: junk, source: junk, data: junk, content: junk, title: junk, extra: junk },
    { requiredKeys: ['type'] },
  ),
  junk,
);
const message = fc.record(
  {
    role: fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom('user', 'assistant', 'assistant', 'system') },
      { weight: 1, arbitrary: fc.oneof(fc.constant('tool'), junk) },
    ),
    content: fc.oneof({ weight: 6, arbitrary: fc.array(block, { maxLength: 5, size: 'max' }) }, { weight: 1, arbitrary: junk }),
    usage: junk,
  },
  { requiredKeys: ['role', 'content'] },
);

/** Any JSON array, most of them much like a history. */
export const anything: fc.Arbitrary<MessageParam[]> = fc
  .array(fc.oneof({ weight: 9, arbitrary: message }, { weight: 1, arbitrary: junk }), { maxLength: 9, size: 'max' })
  .map((history) => JSON.parse(JSON.stringify(history)) as MessageParam[]);

type Mutation = (history: unknown[], at: number, other: number, value: unknown) => void;

/** The object that the numbers happen to lead to: a message, or a block of one. */
function target(history: readonly unknown[], at: number, other: number): Fields | undefined {
  const each = history[at % history.length] as Fields | null;
  const content = each?.['content'];
  const inner: unknown = Array.isArray(content) && other % 4 !== 0 ? content[other % content.length] : each;
  return typeof inner === 'object' && inner !== null ? (inner as Fields) : undefined;
}

function blockList(history: readonly unknown[], at: number): unknown[] {
  const content = (history[at % history.length] as Fields | null)?.['content'];
  return Array.isArray(content) ? (content as unknown[]) : [];
}

const MUTATIONS: readonly Mutation[] = [
  (history, at) => void history.splice(at % history.length, 1),
  (history, at, other) => void history.splice(other % (history.length + 1), 0, ...history.splice(at % history.length, 1)),
  (history, at, other) => void history.splice(other % (history.length + 1), 0, structuredClone(history[at % history.length])),
  (history, at, _other, value) => void history.splice(at % (history.length + 1), 0, value),
  (history, at, other) => void blockList(history, at).splice(other, 1),
  (history, at, other) => void blockList(history, other).splice(at % 3, 0, ...blockList(history, at).splice(other % 3, 1)),
  (history, at, other) => void blockList(history, other).push(structuredClone(blockList(history, at)[other % 3])),
  (history, at, other, value) => void blockList(history, at).splice(other % 3, 0, value),
  (history, at, other) => {
    const fields = target(history, at, other);
    if (fields) Reflect.deleteProperty(fields, Object.keys(fields)[other % 5] ?? '');
  },
  (history, at, other, value) => {
    const fields = target(history, at, other);
    if (fields) fields[Object.keys(fields)[at % 5] ?? 'extra'] = value;
  },
  (history, at, other, value) => {
    const fields = target(history, at, other);
    if (fields) fields['extra'] = value;
  },
  (history, at, other) => {
    const fields = target(history, at, 0);
    if (fields) fields['role'] = ['user', 'assistant', 'system'][other % 3];
  },
];
const step = fc.tuple(fc.nat(MUTATIONS.length - 1), fc.nat(40), fc.nat(40), fc.oneof(junk, block, message));

/** Histories in order to which a few things happened. */
export const mutated: fc.Arbitrary<MessageParam[]> = fc
  .tuple(inOrder, fc.array(step, { minLength: 1, maxLength: 5 }))
  .map(([valid, steps]) => {
    const history = JSON.parse(JSON.stringify(valid)) as unknown[];
    for (const [kind, at, other, value] of steps) if (history.length > 0) MUTATIONS[kind]?.(history, at, other, structuredClone(value));
    return JSON.parse(JSON.stringify(history)) as MessageParam[];
  });
