import fc from 'fast-check';
import { repairHistory, type HistoryRepair } from 'rxfleet/agents';
import { describe, expect, it } from 'vitest';
import {
  anything,
  assistant,
  blocksIn,
  found,
  inOrder,
  mutated,
  problemOf,
  res,
  search,
  system,
  text,
  use,
  user,
  type Fields,
} from './foreignHistories.js';
import { start, type MessageParam } from './harness.js';

interface Repaired {
  readonly messages: MessageParam[];
  readonly repairs: HistoryRepair[];
}
const repair = (...history: unknown[]): Repaired => repairHistory(history as MessageParam[]);
const kinds = ({ repairs }: Repaired): string[] => repairs.map(({ kind }) => kind);

/** The results that are in a history, wherever, of calls whose id nobody else has. */
function knownResults(history: readonly unknown[]): Map<string, unknown[]> {
  const records = history.filter((each): each is Fields => typeof each === 'object' && each !== null && !Array.isArray(each));
  const sayable = records.filter(({ role }) => ['user', 'assistant', 'system'].includes(role as string));
  const blocks = sayable.flatMap(({ role, content }) =>
    (Array.isArray(content) ? (content as unknown[]) : [content]).map((block) => ({ role, block: block as Fields | null })),
  );
  const called = blocks.flatMap(({ role, block }) => (role === 'assistant' && block?.['type'] === 'tool_use' ? [block['id']] : []));
  const known = new Map<string, unknown[]>();
  for (const { block } of blocks) {
    const callId = block?.['tool_use_id'];
    if (block?.['type'] !== 'tool_result' || typeof callId !== 'string' || !/^[\w-]+$/.test(callId)) continue;
    if (called.filter((each) => String(each) === callId).length === 1) known.set(callId, [...(known.get(callId) ?? []), block['content']]);
  }
  return known;
}

function expectRepaired(history: MessageParam[]): void {
  const before = JSON.stringify(history);
  const { messages, repairs } = repairHistory(history);
  if (messages.length > 0) expect(problemOf(messages)).toBeUndefined();
  const again = repairHistory(messages);
  expect(again.repairs).toEqual([]);
  expect(again.messages).toHaveLength(messages.length);
  again.messages.forEach((each, i) => expect(each).toBe(messages[i]));
  expect(JSON.stringify(history)).toBe(before);
  if (repairs.length === 0) history.forEach((each, i) => expect(messages[i]).toBe(each));
  const answers = new Map(blocksIn(messages).flatMap((block) => (block['type'] === 'tool_result' ? [[block['tool_use_id'], block]] : [])));
  for (const [callId, contents] of knownResults(history)) {
    const content = answers.get(callId)?.['content'];
    if (contents.some((each) => typeof each === 'string' && each !== '')) expect(String(content)).not.toContain('is not known');
    if (contents.length === 1 && typeof contents[0] === 'string' && contents[0] !== '') expect(content).toBe(contents[0]);
  }
}

describe('repairHistory of any history', () => {
  it('one in order comes back as the very same objects, with nothing noted', () => {
    fc.assert(
      fc.property(inOrder, (history) => {
        expect(problemOf(history)).toBeUndefined();
        const { messages, repairs } = repairHistory(history);
        expect(repairs).toEqual([]);
        expect(messages).toHaveLength(history.length);
        messages.forEach((each, i) => expect(each).toBe(history[i]));
      }),
      { numRuns: 2_000 },
    );
  });

  it('one in order to which things happened passes the strict validator, keeps its results, and needs no second repair', () => {
    fc.assert(fc.property(mutated, expectRepaired), { numRuns: 2_000 });
  });

  it('so does whatever else is in an array', () => {
    fc.assert(fc.property(anything, expectRepaired), { numRuns: 2_000 });
  });

  it('what the strict validator takes keeps every text, call and result', () => {
    const kept = (messages: unknown): string[] =>
      blocksIn(messages)
        .filter((block) => ['text', 'tool_use', 'tool_result'].includes(String(block['type'])) && block['text'] !== '')
        .map((block) => JSON.stringify({ ...block, caller: undefined }))
        .sort();
    let taken = 0;
    fc.assert(
      fc.property(mutated, (history) => {
        fc.pre(problemOf(history) === undefined);
        taken++;
        expect(kept(repairHistory(history).messages)).toEqual(kept(history));
      }),
      { numRuns: 500 },
    );
    expect(taken).toBeGreaterThanOrEqual(500);
  });

  it('the server takes what was repaired', async () => {
    const { client } = await start([]);
    const { messages } = repair(
      null,
      assistant([use('a b'), use(null, 'x')]),
      system('so'),
      user([res('a b', { k: 1 }), null, 'hm']),
      assistant('So '),
    );
    await client.messages.countTokens({ model: 'm', messages });
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'user', 'system', 'assistant']);
  });
});

describe('a result that is there', () => {
  const call = assistant([use('a')]);
  const known = user([res('a', 'REAL')]);
  it.each<[string, unknown[]]>([
    ['after what the user said', [user('x'), call, user('hm'), known]],
    ['after another reply', [user('x'), call, user('hm'), assistant('still'), known]],
    ['after a message of the system', [user('x'), call, system('note'), known]],
    ['before its call', [user('x'), known, call]],
    ['in the reply itself', [user('x'), assistant([use('a'), res('a', 'REAL')])]],
    ['under a number', [user('x'), assistant([use(7)]), user([res(7, 'REAL')])]],
    ['without an id, as its call', [user('x'), assistant([use(undefined)]), user([res(undefined, 'REAL')])]],
    ['as an object', [user('x'), call, user([res('a', { said: 'REAL' })])]],
    ['in a list with other things', [user('x'), call, user([res('a', [null, 'REAL', 5, text('')])])]],
    ['as the whole content', [user('x'), call, user(res('a', 'REAL'))]],
    ['of a call without a name', [user('x'), assistant([{ type: 'tool_use', id: 'a', input: {} }]), known]],
  ])('is kept: %s', (_where, history) => {
    const { messages, repairs } = repair(...history);
    expect(problemOf(messages)).toBeUndefined();
    expect(JSON.stringify(messages[2])).toContain('REAL');
    expect(JSON.stringify(messages)).not.toContain('not known');
    expect(repairs.map(({ kind }) => kind)).not.toContain('orphan-result');
  });

  it('goes to the call that asked last, where several have the same id', () => {
    const { messages } = repair(user('x'), call, user('hm'), call, known);
    expect(JSON.stringify(messages[2])).toContain('not known');
    expect(messages.at(-1)).toEqual(user([res('a_2', 'REAL')]));
  });

  it('is not taken for that of another call: a second one is left out', () => {
    const { messages, repairs } = repair(user('x'), call, user([res('a', '1'), res('a', '2')]), call);
    expect(messages.at(-1)?.content).toMatchObject([{ tool_use_id: 'a_2', is_error: true }]);
    expect(repairs).toMatchObject([
      { kind: 'duplicate-result', message: 2 },
      { kind: 'changed-id', message: 3 },
      { kind: 'missing-result', message: 4 },
    ]);
  });
});

describe('what is refused alone', () => {
  const signed = { type: 'thinking', thinking: 'hm', signature: 'signed' };
  it.each<[string, unknown[], string[]]>([
    ['the assistant comes first', [assistant('hi'), user('x')], ['added-message']],
    ['a result without a call came first', [user([res('a')]), assistant('x')], ['orphan-result', 'added-message']],
    ['spaces to go on with', [user('x'), assistant('Hello ')], ['changed-block']],
    ['spaces to go on with, in a block', [user('x'), assistant([text('Hello\n')])], ['changed-block']],
    ['the system before the user', [user('x'), assistant('y'), system('z'), user('w')], ['moved-message']],
    ['the system first', [system('z'), user('w')], ['moved-message']],
    ['the system alone', [system('z')], ['added-message']],
    ['an empty text in a result', [user('x'), assistant([use('a')]), user([res('a', [text('')])])], ['changed-block']],
    [
      'an error of empty texts',
      [user('x'), assistant([use('a')]), user([res('a', [text('')], { is_error: true })])],
      ['missing-result', 'changed-block'],
    ],
    [
      'an error of null',
      [user('x'), assistant([use('a')]), user([res('a', null, { is_error: true })])],
      ['missing-result', 'changed-block'],
    ],
    ['thinking without a signature', [user('x'), assistant([{ ...signed, signature: undefined }, text('y')])], ['dropped-block']],
    ['thinking at the end', [user('x'), assistant([text('y'), signed])], ['dropped-block']],
    ['a whole reply as a message', [user('x'), { ...assistant([text('y')]), id: 'msg_1', usage: {} }, user('z')], ['dropped-field']],
    ['fields of a helper', [user('x'), assistant([{ ...text('y'), parsed_output: null }])], ['dropped-field']],
    ['fields in a result', [user('x'), assistant([use('a')]), user([res('a', 'r', { name: 't' })])], ['dropped-field']],
    ['a call with an empty name', [user('x'), assistant([use('a', {}, { name: '' })]), user([res('a')])], ['changed-block']],
    ['a call without an object', [user('x'), assistant([use('a', [])]), user([res('a')])], ['changed-block']],
    [
      'nothing',
      [user('x'), null, assistant(null), { role: 'user' }, assistant('y')],
      ['dropped-message', 'dropped-message', 'dropped-message'],
    ],
    [
      'blocks that are none',
      [user([null, 'x', { text: 'y' }, { type: 'toString' }])],
      ['dropped-block', 'changed-block', 'dropped-block', 'dropped-block'],
    ],
  ])('%s', (_what, history, noted) => {
    const repaired = repair(...history);
    expect(problemOf(repaired.messages)).toBeUndefined();
    expect(kinds(repaired)).toEqual(noted);
  });

  it('more messages than the API takes: the newest stay', () => {
    const history = Array.from({ length: 50_001 }, (_, i) => [assistant([use(`a${i}`)]), user([res(`a${i}`)])]).flat();
    const { messages, repairs } = repairHistory([user('x'), ...history] as unknown as MessageParam[]);
    expect(problemOf(messages)).toBeUndefined();
    expect(messages.length).toBeGreaterThan(99_990);
    expect(messages.at(-1)).toBe(history.at(-1));
    expect(repairs.filter(({ kind }) => kind === 'dropped-message').length).toBeLessThan(10);
    expect(repairHistory(messages).repairs).toEqual([]);
  });

  it('nothing is left of nothing', () => {
    expect(repair().messages).toEqual([]);
    expect(repair(user(''), user([res('a')]), 5, assistant([signed])).messages).toEqual([]);
  });
});

describe('calls of the API itself', () => {
  const caller = { caller: { type: 'code_execution_20250825', tool_id: 's' } };
  const begun = [user('x'), assistant([search('s'), use('a', {}, caller)]), user([res('a')])];
  it('stay with a result that comes after those of our calls, and where the API has yet to go on', () => {
    for (const rest of [
      [],
      [assistant([found('s'), text('so')])],
      [assistant([use('b', {}, caller)]), user([res('b')]), assistant([found('s')])],
    ]) {
      const history = [...begun, ...rest];
      const { messages, repairs } = repair(...history);
      expect(repairs).toEqual([]);
      messages.forEach((each, i) => expect(each).toBe(history[i]));
    }
  });

  it('are left out where something else is said: our calls that they made are then called by nobody', () => {
    const { messages, repairs } = repair(...begun, user('never mind'), assistant('Well.'));
    expect(messages[1]).toEqual(assistant([use('a')]));
    expect(repairs).toMatchObject([
      { kind: 'dropped-block', message: 1 },
      { kind: 'dropped-field', message: 1, id: 'a' },
    ]);
  });

  it('are left out without an id, or with a result of another kind of tool', () => {
    const { messages } = repair(
      user('x'),
      assistant([search(undefined), found(undefined), search('s'), { ...found('s'), type: 'mcp_tool_result' }, text('y')]),
      user('z'),
    );
    expect(messages[1]).toEqual(assistant([text('y')]));
  });
});
