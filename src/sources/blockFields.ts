/** What a field of a block holds; a `?` at the end allows it to be absent or null. */
type Kind = keyof typeof HOLDS;
type Fields = Readonly<Record<string, Kind | `${Kind}?`>>;

const HOLDS = {
  string: (value: unknown): boolean => typeof value === 'string',
  boolean: (value: unknown): boolean => typeof value === 'boolean',
  object: isRecord,
  array: Array.isArray,
  any: (): boolean => true,
};

const MARK = { type: 'string', cache_control: 'object?' } as const;

/** The fields of each kind of block; `undefined` stands for the blocks of the API's own tools, whose insides are its own affair. */
const FIELDS: Readonly<Record<string, Fields | undefined>> = {
  text: { ...MARK, text: 'string', citations: 'array?' },
  image: { ...MARK, source: 'object', transformations: 'object?' },
  document: { ...MARK, source: 'object', title: 'string?', context: 'string?', citations: 'object?' },
  search_result: { ...MARK, source: 'string', title: 'string', content: 'array', citations: 'object?' },
  thinking: { type: 'string', thinking: 'string', signature: 'string' },
  redacted_thinking: { type: 'string', data: 'string' },
  tool_use: { ...MARK, id: 'string', name: 'string', input: 'object', caller: 'object?', toolset_name: 'string?' },
  tool_result: { ...MARK, tool_use_id: 'string', content: 'any?', is_error: 'boolean?', toolset_name: 'string?' },
  tool_reference: { ...MARK, tool_name: 'string' },
  server_tool_use: undefined,
  web_search_tool_result: undefined,
  web_fetch_tool_result: undefined,
  code_execution_tool_result: undefined,
  bash_code_execution_tool_result: undefined,
  text_editor_code_execution_tool_result: undefined,
  tool_search_tool_result: undefined,
  mcp_tool_use: undefined,
  mcp_tool_result: undefined,
  container_upload: undefined,
  browser_state: undefined,
  compaction: undefined,
};

const IN_RESULTS: readonly string[] = ['text', 'image', 'search_result', 'document', 'tool_reference', 'browser_state'];
const NOT_IN_MESSAGES: readonly string[] = ['tool_reference', 'browser_state'];

/** A block with a type that the API knows. */
export type Typed = Readonly<Record<string, unknown>> & { readonly type: string };

export function isTyped(block: unknown, where: 'message' | 'result'): block is Typed {
  if (!isRecord(block) || typeof block['type'] !== 'string' || !Object.hasOwn(FIELDS, block['type'])) return false;
  return where === 'result' ? IN_RESULTS.includes(block['type']) : !NOT_IN_MESSAGES.includes(block['type']);
}

/** The block without fields that the API would refuse; itself if it has none; undefined if one that it needs is missing or wrong. */
export function withKnownFields(block: Typed): Typed | undefined {
  const fields = FIELDS[block.type];
  if (fields === undefined) return block;
  if (!Object.entries(fields).every(([name, kind]) => kind.endsWith('?') || fits(kind, block[name]))) return undefined;
  const all = Object.entries(block);
  const known = all.filter(([name, value]) => Object.hasOwn(fields, name) && fits(fields[name] as string, value));
  return known.length === all.length ? block : (Object.fromEntries(known) as Typed);
}

function fits(kind: string, value: unknown): boolean {
  if (!kind.endsWith('?')) return HOLDS[kind as Kind](value);
  return value === undefined || value === null || HOLDS[kind.slice(0, -1) as Kind](value);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
